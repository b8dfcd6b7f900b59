"""Multimodal folders as others write them load bit by bit."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import (
    assert_same_params,
    assert_same_vision,
    change_config,
    change_tensors,
    save_seeing,
    save_tiny,
    vision_tensors_of,
)
from support.tiny import TINY

from ref.config import VISION
from ref.errors import BadInput
from ref.ops.linear import widen
from ref.weights.export import save_hugging_face
from ref.weights.load import hold_as
from ref.weights.names import HUGGING_FACE_PREFIXES, MATRICES, PROJECTOR_PREFIXES, TOWER_PREFIXES
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params, synthetic_vision

TEXT, TOWER, PROJECTOR = "language_model.model.", "vision_tower.vision_model.", "multi_modal_projector."
COUNT = 13 * TINY.layers + 2 + 16 * 2 + 7


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize(("shards", "style"), [(1, "4.51"), (3, "4.52")])
def test_a_written_folder_loads_bit_by_bit(tmp_path, bfloat16, shards, style):
    params, vision = save_seeing(tmp_path / "tiny", bfloat16, shards, style)
    loaded = load(str(tmp_path / "tiny"))
    assert_same_params(loaded.params, params)
    assert_same_vision(loaded.vision, vision)
    assert loaded.report == (COUNT, COUNT, ())


@pytest.mark.parametrize("size", ["tiny", "tiny-long"])
def test_the_number_of_soft_tokens_is_read(tmp_path, size):
    save_seeing(tmp_path / "tiny", size=size)
    loaded = load(str(tmp_path / "tiny"))
    assert loaded.vision
    assert loaded.vision.config == VISION[size]


def rename(prefixes):
    def change(tensors):
        for name in list(tensors):
            old = next(p for p in (TEXT, TOWER, PROJECTOR) if name.startswith(p))
            tensors[prefixes[old] + name.removeprefix(old)] = tensors.pop(name)

    return change


@pytest.mark.parametrize(
    "prefixes", list(itertools.product(HUGGING_FACE_PREFIXES, TOWER_PREFIXES, PROJECTOR_PREFIXES)), ids=" ".join
)
def test_each_official_prefix(tmp_path, prefixes):
    params, vision = save_seeing(tmp_path / "tiny")
    change_tensors(tmp_path / "tiny", rename(dict(zip((TEXT, TOWER, PROJECTOR), prefixes, strict=True))))
    loaded = load(str(tmp_path / "tiny"))
    assert_same_params(loaded.params, params)
    assert_same_vision(loaded.vision, vision)
    assert loaded.report == (COUNT, COUNT, ())


@pytest.mark.parametrize("shards", [1, 3])
def test_bfloat16_vectors_of_a_released_file_are_the_same_numbers(tmp_path, shards):
    _, vision = save_seeing(tmp_path / "tiny", shards=shards)
    for path in (tmp_path / "tiny").glob("*.safetensors"):
        save_file({name: array.astype(ml_dtypes.bfloat16) for name, array in load_file(path).items()}, path)
    assert_same_vision(load(str(tmp_path / "tiny")).vision, vision)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_held_as_they_are_and_vectors_widened(tmp_path, dtype):
    _, vision = save_seeing(tmp_path / "tiny", bfloat16=False)
    change_tensors(tmp_path / "tiny", lambda t: t.update({name: array.astype(dtype) for name, array in t.items()}))
    loaded = load(str(tmp_path / "tiny")).vision
    assert loaded
    for (field, _, got), (_, _, was) in zip(vision_tensors_of(loaded), vision_tensors_of(vision), strict=True):
        assert got.dtype == (dtype if field in MATRICES or dtype == np.float64 else np.float32)
        np.testing.assert_array_equal(got, was.astype(dtype))


def test_blocks_are_built_when_asked_for_and_the_patch_is_a_view_of_the_file(tmp_path):
    save_seeing(tmp_path / "tiny")
    vision = load(str(tmp_path / "tiny")).vision
    assert vision
    assert vision.layers[1] is not vision.layers[1]
    assert not vision.patch.flags.owndata
    assert not vision.patch.flags.writeable
    with pytest.raises(IndexError):
        vision.layers[2]


@pytest.mark.parametrize("rows", [262_144, 262_208])
@pytest.mark.parametrize("explicit", [True, False])
def test_both_official_numbers_of_rows(tmp_path, rows, explicit):
    """In a vocabulary of the official size the ids around and in the place of images are the official ones."""
    text = synthetic_params(TINY._replace(layers=1, vocabulary=rows), 0)
    vision = synthetic_vision(VISION["tiny"], TINY.width, 0)
    save_hugging_face(text, tmp_path, vision=vision)
    ids = {"image_token_index": 262_144, "boi_token_index": 255_999, "eoi_token_index": 256_000}
    change_config(tmp_path, **(ids if explicit else dict.fromkeys(ids)))
    loaded = load(str(tmp_path))
    assert loaded.params.config.vocabulary == rows
    assert_same_vision(loaded.vision, vision)
    for key, value in ids.items():
        change_config(tmp_path, **{key: value + 1})
        with pytest.raises(BadInput, match=rf"config.json: {key}: wanted {value}, got {value + 1}$"):
            load(str(tmp_path))
        change_config(tmp_path, **{key: value})


def test_the_head_of_siglip_is_left_and_reported(tmp_path):
    _, vision = save_seeing(tmp_path / "tiny")
    head = [f"{TOWER}head.probe", f"{TOWER}head.layernorm.bias"]
    change_tensors(tmp_path / "tiny", lambda t: t.update(dict.fromkeys(head, np.zeros(3, np.float32))))
    loaded = load(str(tmp_path / "tiny"))
    assert loaded.report == (COUNT, COUNT + 2, tuple(sorted(head)))
    assert_same_vision(loaded.vision, vision)


def test_weights_that_cannot_see(tmp_path):
    save_tiny(tmp_path / "text")
    assert load(str(tmp_path / "text")).vision is None
    params, _ = save_seeing(tmp_path / "half")

    def blind(tensors):
        for name in [name for name in tensors if not name.startswith(TEXT)]:
            del tensors[name]

    change_tensors(tmp_path / "half", blind)
    change_config(tmp_path / "half", vision_config="unread")
    loaded = load(str(tmp_path / "half"))  # the text half of a multimodal checkpoint
    assert loaded.vision is None
    assert_same_params(loaded.params, params)


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("held_as", ["float32", "bfloat16"])
def test_how_a_tower_is_held(bfloat16, held_as):
    vision = synthetic_vision(VISION["tiny"], TINY.width, 3, bfloat16)
    held = hold_as(vision, held_as)
    assert held.config == vision.config
    assert held.layers[1] is held.layers[1]  # converted once, then kept
    assert held.position is vision.position
    for (field, _, got), (_, _, was) in zip(vision_tensors_of(held), vision_tensors_of(vision), strict=True):
        wide = widen(was)
        if field not in MATRICES:
            assert got.dtype == np.float32
        elif held_as == "bfloat16":
            assert got.dtype == np.uint16
            wide = wide.astype(ml_dtypes.bfloat16).astype(np.float32)
        else:
            assert got.dtype == np.float32
        np.testing.assert_array_equal(widen(got), wide)
    assert hold_as(vision, "file") is vision


@pytest.mark.witness
@pytest.mark.parametrize(("style", "shards"), [("4.51", 1), ("4.52", 2)])
@pytest.mark.parametrize("size", ["tiny", "tiny-long"])
def test_transformers_finds_every_tensor_of_what_we_write(tmp_path, style, shards, size):
    import torch
    from transformers import Gemma3ForConditionalGeneration

    params, vision = save_seeing(tmp_path / "tiny", True, shards, style, size)
    model, found = Gemma3ForConditionalGeneration.from_pretrained(
        tmp_path / "tiny", dtype=torch.float32, output_loading_info=True
    )
    assert not any(found.values()), found
    c = model.config
    assert (c.image_token_index, c.boi_token_index, c.eoi_token_index) == (97, 95, 96)
    assert (c.mm_tokens_per_image, c.vision_config.vision_use_head) == (vision.config.soft_tokens, False)
    assert model.model.multi_modal_projector.kernel_size == vision.config.pool
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tower = "model.vision_tower."
    weight = state[f"{tower}encoder.layers.1.self_attn.out_proj.weight"]
    np.testing.assert_array_equal(weight, widen(vision.layers[1].attn_out))
    patch = state[f"{tower}embeddings.patch_embedding.weight"]
    np.testing.assert_array_equal(patch.reshape(26, -1), widen(vision.patch))
    projector = state["model.multi_modal_projector.mm_input_projection_weight"]
    np.testing.assert_array_equal(projector, widen(vision.projection))
    np.testing.assert_array_equal(state["model.language_model.embed_tokens.weight"], widen(params.embedding))


@pytest.mark.witness
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_transformers_writes_is_loaded_bit_by_bit(tmp_path, head, dtype):
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {"vocab_size": 97, "hidden_size": 36, "intermediate_size": 44, "num_hidden_layers": 2,
            "num_attention_heads": 12, "num_key_value_heads": 3, "head_dim": 10, "sliding_window": 5}  # fmt: skip
    eye = {"model_type": "siglip_vision_model", "hidden_size": 26, "intermediate_size": 34, "num_hidden_layers": 2,
           "num_attention_heads": 2, "image_size": 40, "patch_size": 5, "vision_use_head": head}  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=eye, mm_tokens_per_image=4, image_token_index=97)
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config).to(getattr(torch, dtype))
    with torch.no_grad():  # norms are initialised alike, biases with zeros
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(tmp_path)
    loaded = load(str(tmp_path))
    vision = loaded.vision
    assert vision
    assert vision.config == VISION["tiny"]
    assert loaded.report.used == 13 * 2 + 2 + 16 * 2 + 7
    assert all(name.startswith("vision_tower.head.") for name in loaded.report.left)
    assert bool(loaded.report.left) == head
    state = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    modules = {"attn_norm": "layer_norm1", "ffn_norm": "layer_norm2", "attn_out": "self_attn.out_proj",
               "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
               "up": "mlp.fc1", "down": "mlp.fc2"}  # fmt: skip
    outside = {"patch": "embeddings.patch_embedding.weight", "patch_bias": "embeddings.patch_embedding.bias",
               "position": "embeddings.position_embedding.weight", "post_norm": "post_layernorm.weight",
               "post_norm_bias": "post_layernorm.bias"}  # fmt: skip
    projector = {"soft_norm": "mm_soft_emb_norm.weight", "projection": "mm_input_projection_weight"}
    names = {(field, None): f"model.vision_tower.{name}" for field, name in outside.items()}
    names |= {(field, None): f"model.multi_modal_projector.{name}" for field, name in projector.items()}
    for i, (field, module) in itertools.product(range(2), modules.items()):
        names[field, i] = f"model.vision_tower.encoder.layers.{i}.{module}.weight"
        names[f"{field}_bias", i] = f"model.vision_tower.encoder.layers.{i}.{module}.bias"
    for field, layer, weight in vision_tensors_of(vision):
        np.testing.assert_array_equal(widen(weight), state[names[field, layer]].reshape(weight.shape), err_msg=field)
    np.testing.assert_array_equal(widen(loaded.params.embedding), state["model.language_model.embed_tokens.weight"])
