"""The mmproj file beside a GGUF file, as the `gguf` package writes it: the same tower, the projector's norm less 1."""

import numpy as np
import pytest
from support.checkpoints import SMALL, SMALL_EYE, assert_same_vision, save_mmproj, vision_tensors_of
from support.mmproj import see

from ref.cli import main
from ref.config import SIGLIP
from ref.model.vision import encode_images
from ref.ops.blocks import Blocks
from ref.ops.linear import widen
from ref.weights.names import MATRICES, VISION_LAYER_NAMES, VISION_NAMES, mmproj_name, vision_name
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_vision

COUNT = 16 * SMALL_EYE.layers + 7


def test_a_float32_file_is_the_same_tower_bit_by_bit(tmp_path, text):
    exact = synthetic_vision(SMALL_EYE, SMALL.width, 5)  # 1 + w of a bfloat16 gain is a float32
    vision = exact._replace(
        patch=widen(exact.patch),
        projection=widen(exact.projection),
        layers=[layer._replace(**{f: widen(w) for f, w in layer._asdict().items()}) for layer in exact.layers],
    )
    save_mmproj(tmp_path / "mmproj.gguf", vision)
    loaded = load(text, mmproj=str(tmp_path / "mmproj.gguf"))
    assert_same_vision(loaded.vision, vision)
    assert loaded.report == (93 + COUNT, 93 + COUNT, ())
    assert (loaded.name, loaded.params.config) == (text, SMALL)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_types_mean_what_the_gguf_package_says(tmp_path, text, eye, kind):
    from gguf import GGMLQuantizationType, dequantize, quantize

    quantisation = GGMLQuantizationType[kind]
    save_mmproj(tmp_path / "mmproj.gguf", eye, kind)
    vision = see(tmp_path / "mmproj.gguf", text)
    assert isinstance(vision.layers[0].up, Blocks) == kind.startswith("Q")
    for (field, layer, got), (_, _, was) in zip(vision_tensors_of(vision), vision_tensors_of(eye), strict=True):
        if field == "soft_norm":
            wide = (was + np.float32(1)).astype(np.float64) - 1
        elif field in MATRICES and field != "patch":
            wide = np.asarray(dequantize(quantize(was, quantisation), quantisation), np.float32)
        else:
            wide = was
        np.testing.assert_array_equal(widen(got), wide, err_msg=f"{field} {layer}")


@pytest.mark.parametrize("held_as", ["float32", "bfloat16"])
def test_blocks_can_be_held_as_floats(tmp_path, text, eye, held_as):
    save_mmproj(tmp_path / "mmproj.gguf", eye, "Q8_0")
    as_file, held = (load(text, how, str(tmp_path / "mmproj.gguf")).vision for how in ("file", held_as))
    assert as_file
    assert held
    assert held.layers[1].up.dtype == {"float32": np.float32, "bfloat16": np.uint16}[held_as]
    if held_as == "float32":
        pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, 40, 40))
        got, wanted = encode_images(held, pixels), encode_images(as_file, pixels)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_quantised_bias_stays_a_vector(tmp_path, text, eye):
    from gguf import GGMLQuantizationType, quantize

    save_mmproj(tmp_path / "mmproj.gguf", eye)
    data = bytearray((tmp_path / "mmproj.gguf").read_bytes())
    name = b"v.post_ln.bias"
    place = bytes(data).index(name) + len(name) + 4 + 8  # dimensions, length; then type and offset
    assert data[place : place + 4] == bytes(4)
    data[place : place + 4] = (8).to_bytes(4, "little")
    blocks = quantize(eye.post_norm_bias, GGMLQuantizationType.Q8_0).tobytes()
    start = bytes(data).index(eye.post_norm_bias.tobytes())
    data[start : start + len(blocks)] = blocks
    (tmp_path / "mmproj.gguf").write_bytes(data)
    bias = see(tmp_path / "mmproj.gguf", text).post_norm_bias
    assert bias.shape == (96,)
    np.testing.assert_allclose(bias, eye.post_norm_bias, atol=0.01)


@pytest.mark.parametrize("pool", [2, 8])
def test_another_pool_than_4_is_written_and_read(tmp_path, text, eye, pool):
    config = SMALL_EYE._replace(soft_tokens=64 // pool**2)
    save_mmproj(tmp_path / "mmproj.gguf", eye._replace(config=config))
    assert see(tmp_path / "mmproj.gguf", text).config == config


def swap(tensors):
    for i in range(SMALL_EYE.layers):
        for part in ("weight", "bias"):
            up, down = f"v.blk.{i}.ffn_up.{part}", f"v.blk.{i}.ffn_down.{part}"
            tensors[up], tensors[down] = tensors[down], tensors[up]


def test_older_files_that_name_fc1_and_fc2_the_other_way_round(tmp_path, text, eye):
    save_mmproj(tmp_path / "new.gguf", eye)
    save_mmproj(tmp_path / "old.gguf", eye, change=swap)
    assert_same_vision(see(tmp_path / "old.gguf", text), see(tmp_path / "new.gguf", text))


def test_names_are_those_of_the_gguf_package():
    from gguf import MODEL_ARCH, TensorNameMap

    of = TensorNameMap(MODEL_ARCH.MMPROJ, SIGLIP.layers)
    pairs = [(field, None) for field in VISION_NAMES]
    pairs += [(field + part, layer) for field in VISION_LAYER_NAMES for part in ("", "_bias") for layer in (0, 26)]
    for field, layer in pairs:
        # the converter calls the projector's bare parameter `.weight` too
        theirs = of.get_name(vision_name(field, layer).replace("_weight", ".weight"), (".weight", ".bias"))
        assert mmproj_name(field, layer) == theirs
    assert len({mmproj_name(*pair) for pair in pairs}) == len(pairs) == 7 + 16 * 2


def test_text_alone_runs_with_an_mmproj_file_as_without(capsys, tmp_path, text, eye):
    save_mmproj(tmp_path / "mmproj.gguf", eye)
    flags = ["generate", "--ids", "1,2", "--max-new-tokens", "3", "--greedy", "--weights", text]
    said = []
    for more in ([], ["--mmproj", str(tmp_path / "mmproj.gguf")]):
        assert main([*flags, *more]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
