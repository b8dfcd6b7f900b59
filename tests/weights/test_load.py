"""Checkpoints as others write them load bit by bit, and every tensor is used or accounted for."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import assert_same_params, change_tensors, save_tiny, tensors_of
from support.tiny import TINY

from ref.errors import BadInput
from ref.ops.linear import widen
from ref.weights.load import hold_as
from ref.weights.names import HUGGING_FACE_PREFIXES, is_norm
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params

COUNT = 13 * TINY.layers + 2


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
    with pytest.raises(BadInput, match=r"config\.json: file: wanted a readable file, got No such file"):
        load(str(tmp_path / "tiny"))
    (tmp_path / "tiny" / "model.safetensors").unlink()
    (tmp_path / "config.json").rename(tmp_path / "tiny" / "config.json")
    with pytest.raises(BadInput, match=r"weights: wanted model\.safetensors\.index\.json or model\.safetensors"):
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
    with pytest.raises(BadInput, match="held-as: wanted file, memory, float32 or bfloat16, got float16"):
        hold_as(params, "float16")


def test_layers_are_built_when_asked_for_and_only_those_that_exist():
    layers = load("tiny").params.layers
    assert len(list(layers)) == len(layers) == TINY.layers
    for index in (7, -8):
        with pytest.raises(IndexError):
            layers[index]


@pytest.mark.weights
def test_weights_in_memory_are_those_of_the_file_at_another_place():
    in_file, in_memory = load("270m"), load("270m", "memory")
    assert in_memory.held_as == "memory"
    pairs = [(in_file.params.embedding, in_memory.params.embedding)]
    for a, b in zip(in_file.params.layers, in_memory.params.layers, strict=True):
        pairs += [(getattr(a, name), getattr(b, name)) for name in ("q", "v", "attn_out", "gate", "down")]
        np.testing.assert_array_equal(a.q_norm, b.q_norm)
    for a, b in pairs:
        assert a.format == b.format
        np.testing.assert_array_equal(a.data, b.data)
        assert not np.shares_memory(a.data, b.data)
        assert b.data.ctypes.data % 64 == 0


def test_made_up_rows_come_to_memory_whole():
    made, held = load("synthetic:270m"), load("synthetic:270m", "memory")
    np.testing.assert_array_equal(held.params.embedding[7:9], made.params.embedding.take_rows(slice(7, 9)))
    np.testing.assert_array_equal(held.params.layers[3].up, made.params.layers[3].up)
