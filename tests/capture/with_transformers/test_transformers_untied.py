"""Models of transformers with a head of their own: ours agrees, their dumps match, and a tied head is named."""

from importlib.util import find_spec

import numpy as np
import pytest
from support.captures import passes_of
from support.transformers_captures import IDS, plain
from support.untied import untied_tiny

import ref
from ref import compare
from ref.capture.transformers import build_from, capture, capture_weights
from ref.measure import measure_logits
from ref.model.text import How, forward

pytestmark = pytest.mark.witness
if find_spec("torch") and find_spec("transformers"):
    import torch
    import transformers


def saved(folder, tied=False):
    """Save transformers' own random model of the size of `tiny`."""
    config = build_from(ref.load("tiny")._replace(vision=None)).config
    config.tie_word_embeddings = tied
    torch.manual_seed(3)
    model = transformers.Gemma3ForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture
def own(tmp_path):
    """A folder with a head of its own, and the model that it was saved from."""
    return saved(tmp_path / "own"), str(tmp_path / "own")


def test_logits_are_those_of_transformers(own):
    model, folder = own
    params = ref.load(folder).params
    assert params.head is not None
    got, wanted = forward(params, [IDS], How(dtype=np.float64))[0], plain(model.double()).numpy()
    assert np.linalg.norm(got - wanted) <= 1e-6 * np.linalg.norm(wanted)


def test_a_head_that_differs_is_used_whatever_the_configuration_says(tmp_path):
    model = saved(tmp_path / "tied", tied=True)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors["lm_head.weight"][5] += 0.1
    transformers.Gemma3ForCausalLM.save_pretrained(model, tmp_path / "tied", state_dict=tensors)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tied")
    head = ref.load(str(tmp_path / "tied")).params.head
    assert head is not None
    np.testing.assert_array_equal(head, again.lm_head.weight.detach().numpy())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_clean_capture_matches(own, tmp_path, dtype):
    _, folder = own
    capture_weights(folder, [IDS], tmp_path / "dump", dtype=dtype)
    report = compare(tmp_path / "dump", weights=folder)
    assert report["verdict"] == "match"
    assert report["causes"] == []


def test_weights_in_memory_become_the_same_model(tmp_path):
    loaded = untied_tiny(sees=True)
    model = build_from(loaded)
    np.testing.assert_array_equal(model.lm_head.weight.detach().numpy(), loaded.params.head)
    [taps] = passes_of(capture(model, IDS, tmp_path / "dump"))
    wanted = taps["text.final_norm"].astype(np.float64) @ loaded.params.head.T.astype(np.float64)
    np.testing.assert_allclose(taps["text.logits"], wanted, atol=1e-4)
    assert compare(tmp_path / "dump", loaded=loaded)["verdict"] == "match"


@pytest.mark.parametrize("columns", [97, 40])
@pytest.mark.parametrize("taps", [("*",), ("text.logits",)])
def test_the_embedding_in_the_place_of_the_head_is_named(own, tmp_path, monkeypatch, taps, columns):
    monkeypatch.setattr(measure_logits, "COLUMNS", columns)
    model, folder = own
    model.lm_head.weight = model.model.embed_tokens.weight
    capture(model, IDS, tmp_path / "dump", weights=folder, taps=taps)
    report = compare(tmp_path / "dump", weights=folder)
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == "text.logits"
    if len(taps[0]) > 1:
        row = report["from_logits"]["ranked"][0]
    else:
        (row,) = report["causes"]
        assert report["proof"]["verdict"] == "explained"
    assert (row["mutant"], row["verdict"]) == ("weights_of_tensor", "named")
    assert [(one["value"], one["wanted"]) for one in row["parameters"]] == [("embedding", "head")]


def test_the_head_in_the_place_of_the_embedding_is_named(own, tmp_path):
    model, folder = own
    model.model.embed_tokens.weight = model.lm_head.weight
    capture(model, IDS, tmp_path / "dump", weights=folder)
    report = compare(tmp_path / "dump", weights=folder)
    assert report["first"]["tap"] == "text.embed"
    (row,) = report["causes"]
    assert (row["mutant"], row["verdict"]) == ("weights_of_tensor", "named")
    assert [(one["value"], one["wanted"]) for one in row["parameters"]] == [("head", "embedding")]


def test_a_head_of_other_values_is_a_bug_without_that_name(own, tmp_path):
    model, folder = own
    with torch.no_grad():
        model.lm_head.weight += 0.02 * torch.randn(model.lm_head.weight.shape, generator=torch.Generator())
    capture(model, IDS, tmp_path / "dump", weights=folder)
    report = compare(tmp_path / "dump", weights=folder)
    assert report["first"]["tap"] == "text.logits"
    assert "weights_of_tensor" not in [one["mutant"] for one in report["causes"]]
