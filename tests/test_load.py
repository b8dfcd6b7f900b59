"""Checkpoints as others write them load bit by bit, and every tensor is used or accounted for."""

import json

import ml_dtypes
import numpy as np
import pytest
from checkpoints import SMALL, assert_same_params, change_tensors, save_gguf, save_tiny, tensors_of
from safetensors.numpy import load_file, save_file
from tiny import BOTH, TINY

from ref.errors import BadInput
from ref.model.text import How, forward
from ref.ops.blocks import Blocks
from ref.ops.linear import widen
from ref.weights.load import hold_as
from ref.weights.names import HUGGING_FACE_PREFIXES, is_norm
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params

COUNT = 13 * TINY.layers + 2
IDS = [[2, 7, 96, 0, 45, 45, 31, 8, 60, 11]]


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_written_folder_loads_bit_by_bit(tmp_path, bfloat16, shards):
    params = save_tiny(tmp_path / "tiny", bfloat16, shards)
    assert len(list((tmp_path / "tiny").glob("*.safetensors"))) == shards
    loaded = load(str(tmp_path / "tiny"))
    assert_same_params(loaded.params, params)
    assert loaded.report == (COUNT, COUNT, ())
    assert (loaded.name, loaded.held_as, loaded.instruction_tuned) == (str(tmp_path / "tiny"), "file", False)


def rename(prefix):
    def change(tensors):
        for name in list(tensors):
            tensors[prefix + name.removeprefix("model.")] = tensors.pop(name)

    return change


@pytest.mark.parametrize("prefix", HUGGING_FACE_PREFIXES)
def test_each_official_prefix(tmp_path, prefix):
    params = save_tiny(tmp_path / "tiny")
    change_tensors(tmp_path / "tiny", rename(prefix))
    assert_same_params(load(str(tmp_path / "tiny")).params, params)


@pytest.mark.parametrize("shards", [1, 3])
def test_bfloat16_norms_of_a_released_file_are_the_same_numbers(tmp_path, shards):
    params = save_tiny(tmp_path / "tiny", shards=shards)
    for path in (tmp_path / "tiny").glob("*.safetensors"):
        save_file({name: array.astype(ml_dtypes.bfloat16) for name, array in load_file(path).items()}, path)
    assert_same_params(load(str(tmp_path / "tiny")).params, params)


def test_a_tied_head_and_the_vision_half_are_left_and_reported(tmp_path):
    params = save_tiny(tmp_path / "tiny")
    extra = ["lm_head.weight", "multi_modal_projector.mm_input_projection_weight",
             "model.vision_tower.vision_model.post_layernorm.bias", "vision_tower.vision_model.x"]  # fmt: skip

    def add(tensors):
        tensors |= dict.fromkeys(extra[1:], np.zeros(3, np.float32))
        tensors[extra[0]] = np.array(tensors["model.embed_tokens.weight"])

    change_tensors(tmp_path / "tiny", add)
    loaded = load(str(tmp_path / "tiny"))
    assert loaded.report == (COUNT, COUNT + 4, tuple(sorted(extra)))
    assert_same_params(loaded.params, params)


def drop(tensors):
    del tensors["model.layers.6.self_attn.q_norm.weight"]


def add_bias(tensors):
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(120, np.float32)


def add_layer(tensors):
    tensors["model.layers.7.mlp.up_proj.weight"] = np.zeros((44, 36), np.float32)


def transpose(tensors):
    tensors["model.layers.2.mlp.down_proj.weight"] = np.zeros((44, 36), np.float32)


def reshape(tensors):
    tensors["model.layers.2.self_attn.k_norm.weight"] = np.zeros((2, 5), np.float32)


def add_rows(tensors):
    tensors["model.embed_tokens.weight"] = np.zeros((161, 36), np.float32)


def use_integers(tensors):
    tensors["model.layers.2.self_attn.v_proj.weight"] = np.ones((30, 36), np.uint16)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop, "tensor model.layers.6.self_attn.q_norm.weight: wanted shape .10., got no such tensor .92 of 93"),
        (add_bias, "tensors: wanted only those of a Gemma 3, got 1 unknown, first model.layers.0.self_attn.q_proj.b"),
        (add_layer, "tensors: wanted only those of a Gemma 3, got 1 unknown, first model.layers.7"),
        (transpose, r"layers.2.mlp.down_proj.weight: wanted shape \[36, 44\], got \[44, 36\] \(transposed\?\)"),
        (reshape, r"layers.2.self_attn.k_norm.weight: wanted shape \[10\], got \[2, 5\]$"),
        (add_rows, r"tensor model.embed_tokens.weight: wanted shape \[97, 36\], got \[161, 36\]"),
        (use_integers, "type of tensor model.layers.2.self_attn.v_proj.weight: wanted F64 F32 F16 BF16 .*, got U16"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tensors_that_are_missing_unknown_or_of_another_shape_are_refused_by_name(tmp_path, change, says):
    save_tiny(tmp_path / "tiny")
    change_tensors(tmp_path / "tiny", change)
    with pytest.raises(BadInput, match=says) as refusal:
        load(str(tmp_path / "tiny"))
    assert str(refusal.value).startswith(f"{tmp_path / 'tiny'}: ")


def test_folders_without_weights_or_configuration_are_refused(tmp_path):
    save_tiny(tmp_path / "tiny")
    (tmp_path / "tiny" / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(BadInput, match="config.json: file: wanted a regular file"):
        load(str(tmp_path / "tiny"))
    (tmp_path / "tiny" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="weights: wanted model.safetensors.index.json or model.safetensors"):
        (tmp_path / "config.json").rename(tmp_path / "tiny" / "config.json")
        load(str(tmp_path / "tiny"))


def test_a_shard_outside_the_folder_is_refused(tmp_path):
    save_tiny(tmp_path / "tiny", shards=3)
    index = tmp_path / "tiny" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    shard = content["weight_map"]["model.norm.weight"]
    (tmp_path / "tiny" / shard).rename(tmp_path / shard)
    places = {name: f"../{shard}" if place == shard else place for name, place in content["weight_map"].items()}
    index.write_text(json.dumps(content | {"weight_map": places}))
    with pytest.raises(BadInput, match="weight_map: wanted the plain name"):
        load(str(tmp_path / "tiny"))


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("held_as", ["float32", "bfloat16"])
def test_how_weights_are_held(bfloat16, held_as):
    params = synthetic_params(TINY, 3, bfloat16=bfloat16)
    held = hold_as(params, held_as)
    assert held.layers[6] is held.layers[6]  # converted once, then kept
    for (field, _, got), (_, _, was) in zip(tensors_of(held), tensors_of(params), strict=True):
        wide = widen(was)
        if is_norm(field):
            assert got.dtype == np.float32
        elif held_as == "bfloat16":
            assert got.dtype == np.uint16
            wide = wide.astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(widen(got), wide)
    assert hold_as(params, "file") is params
    with pytest.raises(BadInput, match="held-as: wanted file, float32 or bfloat16, got float16"):
        hold_as(params, "float16")


def logits(params, dtype=np.float64, ops=BOTH["kernel"]):
    return forward(params, IDS, How(ops=ops, dtype=dtype))[0]


@pytest.fixture(scope="module")
def small():
    return synthetic_params(SMALL, 5, bfloat16=False)


def test_a_float32_gguf_file_is_the_same_model(tmp_path, small):
    save_gguf(tmp_path / "small.gguf", small)
    loaded = load(str(tmp_path / "small.gguf"))
    assert loaded.params.config == SMALL
    assert loaded.report == (93, 93, ())
    for (field, layer, got), (_, _, was) in zip(tensors_of(loaded.params), tensors_of(small), strict=True):
        one = np.float32(1) if is_norm(field) else np.float32(0)
        # 1 + w was rounded to float32 by whoever wrote the file; taking 1 off again rounds nothing
        wanted = (was + one).astype(np.float64) - one
        np.testing.assert_array_equal(got, wanted, err_msg=f"{field} {layer}")
    exact = synthetic_params(SMALL, 5, bfloat16=True)  # 1 + w of a bfloat16 gain is a float32
    save_gguf(tmp_path / "exact.gguf", exact)
    np.testing.assert_array_equal(logits(load(str(tmp_path / "exact.gguf")).params), logits(exact))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("ops", BOTH)
def test_gguf_types_mean_what_the_gguf_package_says(tmp_path, small, kind, ops):
    from gguf import GGMLQuantizationType, dequantize, quantize

    quantisation = GGMLQuantizationType[kind]
    save_gguf(tmp_path / "small.gguf", small, kind)
    loaded = load(str(tmp_path / "small.gguf")).params
    assert isinstance(loaded.layers[0].gate, Blocks) == (kind == "Q8_0")

    def through(field, weight):
        if is_norm(field):
            return (weight + np.float32(1)).astype(np.float64) - 1
        return np.asarray(dequantize(quantize(weight, quantisation), quantisation), np.float32)

    layers = [type(p)(**{f: through(f, w) for f, w in p._asdict().items()}) for p in small.layers]
    wanted = small._replace(
        embedding=through("embedding", small.embedding), layers=layers, final_norm=loaded.final_norm
    )
    for (field, layer, got), (_, _, was) in zip(tensors_of(loaded), tensors_of(wanted), strict=True):
        np.testing.assert_array_equal(widen(got).astype(was.dtype), was, err_msg=f"{field} {layer}")
    got, same = (logits(p, ops=BOTH[ops]) for p in (loaded, wanted))
    assert np.linalg.norm(got - same) <= 1e-12 * np.linalg.norm(same)


def test_gains_whose_sum_with_1_float32_cannot_hold_come_back_exactly(tmp_path):
    # 1 + w near 0: down to 2^-30 float64 holds w of every float32; below, the last bits go
    stored = np.array([2.0**-30, -(2.0**-50), 1e-9, -1.0, 0.25, 1.2345e-9] * 4, np.float32)

    def change(tensors):
        tensors["blk.1.attn_q_norm.weight"] = stored
        tensors["blk.1.attn_k_norm.weight"] = np.float32(1) + np.linspace(-0.9, 1, 24, dtype=np.float32)

    save_gguf(tmp_path / "small.gguf", synthetic_params(SMALL, 0, bfloat16=True), change=change)
    layer = load(str(tmp_path / "small.gguf")).params.layers[1]
    assert layer.q_norm.dtype == np.float64  # w = 2^-30 - 1 has no float32
    np.testing.assert_array_equal(layer.q_norm + 1, stored)
    assert layer.k_norm.dtype == np.float32


def test_quantised_norms_stay_vectors(tmp_path, small):
    from gguf import GGMLQuantizationType, GGUFReader, quantize

    gain = np.linspace(-1, 3, 64, dtype=np.float32)
    save_gguf(tmp_path / "small.gguf", small, change=lambda t: t.update({"output_norm.weight": gain}))
    path = tmp_path / "small.gguf"
    tensor = next(t for t in GGUFReader(path).tensors if t.name == "output_norm.weight")
    data = bytearray(path.read_bytes())
    blocks = quantize(gain, GGMLQuantizationType.Q8_0).tobytes()
    data[tensor.data_offset : tensor.data_offset + len(blocks)] = blocks
    place = bytes(data).index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8
    data[place : place + 4] = (8).to_bytes(4, "little")
    path.write_bytes(data)
    norm = load(str(path)).params.final_norm
    assert norm.shape == (64,)
    np.testing.assert_allclose(norm + 1, gain, atol=0.02)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("token_embd.weight"), "tensor token_embd.weight: wanted an embedding, got none among 92"),
        (lambda t: t.pop("blk.3.ffn_gate.weight"), "tensor blk.3.ffn_gate.weight: wanted shape .* no such tensor"),
        (lambda t: t.update({"output.weight": t["token_embd.weight"]}), "1 unknown, first output.weight"),
        (
            lambda t: t.update({"blk.0.attn_q.weight": np.zeros((64, 96), np.float32)}),
            r"blk.0.attn_q.weight: wanted shape \[96, 64\], got \[64, 96\] \(transposed\?\)",
        ),
        (
            lambda t: t.update({"blk.0.attn_q.weight": np.zeros((96, 64), np.int32)}),
            "type of tensor blk.0.attn_q.weight: wanted .*, got I32",
        ),
    ],
    ids=["embedding", "missing", "head", "transposed", "integers"],
)
def test_gguf_tensors_that_do_not_fit_are_refused_by_name(tmp_path, small, change, says):
    save_gguf(tmp_path / "small.gguf", small, change=change)
    with pytest.raises(BadInput, match=says):
        load(str(tmp_path / "small.gguf"))


def test_layers_are_built_when_asked_for_and_only_those_that_exist():
    layers = load("tiny").params.layers
    assert len(list(layers)) == len(layers) == TINY.layers
    for index in (7, -8):
        with pytest.raises(IndexError):
            layers[index]
