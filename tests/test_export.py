"""Exported folders are official ones: transformers loads them and computes the same."""

import json

import ml_dtypes
import numpy as np
import pytest
from checkpoints import SMALL, assert_same_params, save_gguf, tensors_of
from safetensors.numpy import load_file
from tiny import TINY, random_ids

from ref.errors import BadInput
from ref.model.text import How, forward
from ref.ops.linear import widen
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
