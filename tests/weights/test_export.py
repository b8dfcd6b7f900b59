"""Exported folders are official ones: transformers loads them and computes the same."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.checkpoints import SMALL, assert_same_params, save_gguf, save_seeing, tensors_of
from support.tiny import TINY, random_ids

from ref.errors import BadInput
from ref.model.text import How, forward
from ref.ops.linear import ByRows, widen
from ref.weights.export import save_hugging_face
from ref.weights.load import hold_as
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params


@pytest.mark.witness
@pytest.mark.parametrize(("bfloat16", "shards"), [(True, 1), (False, 3)])
def test_transformers_loads_it_and_computes_the_same(tmp_path, bfloat16, shards):
    """A smoke test of names, layouts and configuration: the goldens do the judging."""
    import torch
    from transformers import Gemma3ForCausalLM

    params = synthetic_params(TINY, 1, bfloat16=bfloat16)
    save_hugging_face(params, tmp_path / "tiny", shards)
    model = Gemma3ForCausalLM.from_pretrained(tmp_path / "tiny", dtype=torch.float32).eval()
    ids = random_ids(0, 2, 19)
    with torch.no_grad():
        wanted = model(torch.from_numpy(ids)).logits.numpy()
    for dtype in (np.float32, np.float64):
        got, _ = forward(params, ids, How(dtype=dtype))
        assert np.linalg.norm(got - wanted) < 1e-5 * np.linalg.norm(wanted)


def test_the_files_hold_the_official_names_and_dtypes(tmp_path):
    save_hugging_face(synthetic_params(TINY, 0), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert len(tensors) == 13 * 7 + 2
    assert tensors["model.embed_tokens.weight"].dtype == ml_dtypes.bfloat16
    assert tensors["model.layers.0.self_attn.o_proj.weight"].shape == (36, 120)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["query_pre_attn_scalar"], config["sliding_window"]) == ("gemma3_text", 15, 5)


@pytest.mark.parametrize(
    ("style", "prefixes"),
    [
        ("4.51", ("language_model.model.", "vision_tower.vision_model.", "multi_modal_projector.")),
        ("4.52", ("model.language_model.", "model.vision_tower.vision_model.", "model.multi_modal_projector.")),
    ],
)
def test_a_multimodal_file_holds_the_official_names_shapes_and_dtypes(tmp_path, style, prefixes):
    save_seeing(tmp_path / "tiny", style=style)
    tensors = load_file(tmp_path / "tiny" / "model.safetensors")
    text, tower, projector = prefixes
    assert len(tensors) == 13 * 7 + 2 + 16 * 2 + 7
    assert {name for name in tensors if not name.startswith(prefixes)} == set()
    bits, floats = ml_dtypes.bfloat16, np.float32
    assert (tensors[f"{text}layers.6.self_attn.o_proj.weight"].shape, tensors[f"{text}norm.weight"].dtype) == (
        (36, 120),
        floats,
    )
    for name, shape, dtype in [
        (f"{tower}embeddings.patch_embedding.weight", (26, 3, 5, 5), bits),
        (f"{tower}embeddings.position_embedding.weight", (64, 26), floats),
        (f"{tower}encoder.layers.1.layer_norm2.bias", (26,), floats),
        (f"{tower}encoder.layers.1.mlp.fc1.weight", (34, 26), bits),
        (f"{tower}encoder.layers.1.self_attn.out_proj.weight", (26, 26), bits),
        (f"{tower}post_layernorm.weight", (26,), floats),
        (f"{projector}mm_input_projection_weight", (26, 36), bits),
        (f"{projector}mm_soft_emb_norm.weight", (26,), floats),
    ]:
        assert (tensors[name].shape, tensors[name].dtype) == (shape, dtype), name
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    assert (config["model_type"], config["text_config"]["model_type"]) == ("gemma3", "gemma3_text")
    ids = [config[f"{name}_token_index"] for name in ("image", "boi", "eoi")]
    assert (ids, config["mm_tokens_per_image"], config["vision_config"]["image_size"]) == ([97, 95, 96], 4, 40)


def test_rows_on_demand_are_written_as_they_are(tmp_path):
    params = synthetic_params(TINY, 0)
    table = params.embedding
    save_hugging_face(params._replace(embedding=ByRows(table.shape, lambda rows: table[rows])), tmp_path / "tiny")
    assert_same_params(load(str(tmp_path / "tiny")).params, params)


def test_a_style_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"export: style: wanted 4\.51 or 4\.52, got 5"):
        save_hugging_face(synthetic_params(TINY, 0), tmp_path / "tiny", style="5")
    assert not (tmp_path / "tiny").exists()


def test_the_index_lists_every_tensor_and_the_total(tmp_path):
    save_hugging_face(synthetic_params(TINY, 0), tmp_path, shards=4)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = {path.name: load_file(path) for path in tmp_path.glob("*.safetensors")}
    assert sorted(shards) == [f"model-0000{i}-of-00004.safetensors" for i in range(1, 5)]
    assert index["weight_map"] == {name: file for file, tensors in shards.items() for name in tensors}
    assert index["metadata"]["total_size"] == sum(t.nbytes for s in shards.values() for t in s.values())


def test_blocks_are_written_as_the_floats_they_stand_for(tmp_path):
    save_gguf(tmp_path / "small.gguf", synthetic_params(SMALL, 0, bfloat16=True), "Q8_0")
    params = load(str(tmp_path / "small.gguf")).params
    save_hugging_face(params, tmp_path / "small")
    got = load(str(tmp_path / "small")).params
    assert_same_params(got, hold_as(params, "float32"))
    for (_, _, a), (_, _, b) in zip(tensors_of(got), tensors_of(params), strict=True):
        np.testing.assert_array_equal(a, widen(b))


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="folder: wanted an empty or new one, got files in it"):
        save_hugging_face(synthetic_params(TINY, 0), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
