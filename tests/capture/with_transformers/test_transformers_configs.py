"""Small and unusual configurations are captured; what is not installed, or broken, is said in a line."""

import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
from support.captures import passes_of
from support.transformers_captures import SEEING, assert_equal

from ref.capture.transformers import build_model, capture
from ref.capture.transformers.model import import_transformers
from ref.dump.write import read_dump
from ref.errors import BadInput
from ref.golden_files.sampled import made_pixels
from ref.judge.compare import compare

pytestmark = [
    pytest.mark.witness,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # of peft on transformers 5
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]
if find_spec("torch") and find_spec("transformers"):
    import torch
    import transformers


def small(**sizes):
    """Build a model of few layers."""
    given = {"vocab_size": 97, "hidden_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 6}
    given |= {"num_key_value_heads": 2, "intermediate_size": 28, "sliding_window": 3, "query_pre_attn_scalar": 15}
    torch.manual_seed(0)
    model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**given | sizes)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape) * 0.3)
    return model


# Small configurations


SMALL = {
    "one local layer": {"num_hidden_layers": 1},
    "one global layer": {"num_hidden_layers": 1, "layer_types": ["full_attention"]},
    "no global layer": {"num_hidden_layers": 3},
    "no local layer": {"layer_types": ["full_attention"] * 2},
    "one head": {"num_attention_heads": 1, "num_key_value_heads": 1},
}


@pytest.mark.parametrize("case", SMALL)
def test_small_configurations_are_captured_and_match(tmp_path, case):
    model = small(**SMALL[case])
    model.save_pretrained(tmp_path / "weights")
    capture(model, [7, 33, 96, 2, 45], tmp_path / "dump", steps=1)
    assert compare(tmp_path / "dump", weights=str(tmp_path / "weights"))["verdict"] == "match"


@pytest.mark.parametrize("kinds", ["full sliding full", "sliding sliding full sliding full"])
def test_layers_without_a_rule_are_refused(tmp_path, kinds):
    kinds = [f"{kind}_attention" for kind in kinds.split()]
    with pytest.raises(BadInput, match="layer_types: wanted a global layer after a fixed number of local ones"):
        capture(small(num_hidden_layers=len(kinds), layer_types=kinds), [1, 2], tmp_path / "dump")


def test_an_image_id_inside_the_vocabulary_is_captured(tmp_path):
    plain, pixels = build_model("tiny"), torch.from_numpy(made_pixels(2, 40))
    [wanted] = passes_of(capture(plain, SEEING, tmp_path / "plain", pixel_values=pixels))
    plain.config.image_token_id = 10
    ids = [10 if one == 97 else one for one in SEEING]
    [values] = passes_of(capture(plain, ids, tmp_path / "dump", pixel_values=pixels))
    del values["text.embed"], wanted["text.embed"]  # the row of that id, which features then replace
    assert_equal([values], [wanted])
    assert read_dump(tmp_path / "dump")["passes"][0]["image_blocks"] == [[2, 6], [8, 12]]
    capture(plain, [3, 10, 4], tmp_path / "text")
    assert read_dump(tmp_path / "text")["passes"][0]["image_blocks"] == []


# What is not installed, or broken


def test_a_broken_install_is_reported_as_what_it_is(monkeypatch):
    def broken(name):
        if name == "transformers":
            raise ImportError("tokenizers>=0.22 is required,\nbut found tokenizers==0.21")
        return import_module(name)

    monkeypatch.setattr("ref.capture.transformers.model.import_module", broken)
    said = r"wanted an install .*\(pip install -e .*\), got one that does not load: tokenizers>=0\.22 is required, but"
    with pytest.raises(BadInput, match=said):
        import_transformers()


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BadInput, match=r'wanted pip install -e "\.\[transformers\]", got no transformers'):
        import_transformers()
