"""The mmproj file beside a GGUF file, as the `gguf` package writes it: the same tower, the projector's norm less 1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checkpoints import (
    SMALL,
    SMALL_EYE,
    assert_same_vision,
    save_gguf,
    save_mmproj,
    save_seeing,
    vision_tensors_of,
)
from support.luck import WITH_FIXTURES
from support.refusing import damage, read_or_refused, refusal

from ref.cli import main
from ref.config import SIGLIP
from ref.errors import BadInput
from ref.model.vision import encode_images
from ref.ops.blocks import Blocks
from ref.ops.linear import widen
from ref.weights.names import MATRICES, VISION_LAYER_NAMES, VISION_NAMES, mmproj_name, vision_name
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params, synthetic_vision

COUNT = 16 * SMALL_EYE.layers + 7
PROJECTION = "mm.input_projection.weight"


@pytest.fixture(scope="module")
def eye():
    return synthetic_vision(SMALL_EYE, SMALL.width, 5, bfloat16=False)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A GGUF file of the text model, for the tests that need one beside the file they are about."""
    path = tmp_path_factory.mktemp("text") / "small.gguf"
    save_gguf(path, synthetic_params(SMALL, 5))
    return str(path)


def see(path, text):
    vision = load(text, mmproj=str(path)).vision
    assert vision
    return vision


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


def transpose(tensors):
    tensors[PROJECTION] = np.ascontiguousarray(tensors[PROJECTION].T)


def drop(tensors):
    del tensors["v.blk.1.ln2.bias"]


def drop_up(tensors):
    del tensors["v.blk.0.ffn_up.weight"]


def add(tensors):
    tensors["v.pre_ln.weight"] = np.ones(96, np.float32)


def use_integers(tensors):
    tensors["v.patch_embd.weight"] = np.zeros((96, 3, 5, 5), np.int32)


def cut_positions(tensors):
    tensors["v.position_embd.weight"] = np.zeros((65, 96), np.float32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (transpose, rf"tensor {PROJECTION}: wanted shape \[96, 64\], got \[64, 96\] \(transposed\?\)"),
        (drop, r"tensor v.blk.1.ln2.bias: wanted shape \[96\], got no such tensor \(38 of 39 tensors found\)"),
        (drop_up, r"tensor v.blk.0.ffn_up.weight: wanted shape \[160, 96\], got no such tensor"),
        (add, "tensors: wanted only those of a Gemma 3, got 1 unknown, first v.pre_ln.weight"),
        (use_integers, "type of tensor v.patch_embd.weight: wanted F64 .*, got I32"),
        (cut_positions, r"tensor v.position_embd.weight: wanted shape \[64, 96\], got \[65, 96\]"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, text, eye, change, says):
    path = tmp_path / "mmproj.gguf"
    save_mmproj(path, eye, change=change)
    with pytest.raises(BadInput, match=says) as refused:
        load(text, mmproj=str(path))
    assert str(refused.value).startswith(f"{path}: ")


def run(capsys, weights, mmproj):
    flags = ["--ids", "1,2", "--max-new-tokens", "1", "--weights", str(weights), "--mmproj", str(mmproj)]
    return refusal(capsys, "generate", *flags)


def test_files_that_do_not_go_together(capsys, tmp_path, text, eye):
    mmproj, wide = tmp_path / "mmproj.gguf", tmp_path / "wide.gguf"
    save_mmproj(mmproj, eye)
    save_mmproj(wide, synthetic_vision(SMALL_EYE, 128))
    want = "clip.vision.projection_dim: wanted 64, the width of the text model, got 128"
    assert f"{wide}: {want}" in run(capsys, text, wide)
    assert "general.architecture: wanted clip, as an mmproj file has, got gemma3" in run(capsys, text, text)
    line = run(capsys, mmproj, text)
    assert f"{mmproj}: general.architecture: wanted gemma3 (an mmproj file goes to --mmproj), got clip" in line
    save_seeing(tmp_path / "folder")
    for weights in (tmp_path / "folder", "tiny", "tiny-long", "synthetic:tiny"):
        line = run(capsys, weights, mmproj)
        assert f"--mmproj: wanted a .gguf file as --weights; others hold their own vision, got {weights}" in line


def test_files_that_are_none(capsys, tmp_path, text):
    for path in (tmp_path / "missing.gguf", tmp_path):
        assert f"--mmproj: wanted a .gguf file with a vision tower, got {path}" in run(capsys, text, path)
    with pytest.raises(BadInput, match=r"--mmproj: wanted a \.gguf file with a vision tower"):
        load(text, mmproj="a\0b")
    (tmp_path / "junk.gguf").write_bytes(b"junk, not GGUF")
    assert f"{tmp_path / 'junk.gguf'}: magic: wanted GGUF, got" in run(capsys, text, tmp_path / "junk.gguf")


def test_text_alone_runs_with_an_mmproj_file_as_without(capsys, tmp_path, text, eye):
    save_mmproj(tmp_path / "mmproj.gguf", eye)
    flags = ["generate", "--ids", "1,2", "--max-new-tokens", "3", "--greedy", "--weights", text]
    said = []
    for more in ([], ["--mmproj", str(tmp_path / "mmproj.gguf")]):
        assert main([*flags, *more]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.fixture(scope="module")
def sound(tmp_path_factory, eye):
    path = tmp_path_factory.mktemp("mmproj") / "mmproj.gguf"
    save_mmproj(path, eye, "Q8_0")
    return path.read_bytes()


@pytest.mark.parametrize("size", [0, 3, 23, 500, 3000, -1])
def test_truncated_files(capsys, tmp_path, text, sound, size):
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(sound[:size])
    assert str(path) in run(capsys, text, path)


@settings(suppress_health_check=WITH_FIXTURES, max_examples=150)
@given(st.data())
def test_files_with_changed_headers_load_or_are_refused_in_one_line(tmp_path, text, sound, data):
    (tmp_path / "damaged.gguf").write_bytes(damage(data, sound, sound.index(b"v.blk.1.")))
    with read_or_refused():
        vision = see(tmp_path / "damaged.gguf", text)
        assert all(weight.shape for _, _, weight in vision_tensors_of(vision))
