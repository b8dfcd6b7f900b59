"""Configurations that are not Gemma 3, or not JSON, are refused by the name of the setting."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hub_configs import NESTED, SHARED, SPARSE
from support.refusing import JSON, read_or_refused

from ref.errors import BadInput
from ref.weights.config_files import (
    CLASS_DEFAULTS,
    LARGEST_JSON,
    config_from_hugging_face,
    read_json,
)


def with_rope(kind: str, **settings) -> dict:
    return {"rope_parameters": NESTED | {kind: NESTED[kind] | settings}}


REFUSED = {
    "another model": ({"model_type": "gemma2"}, "model_type: wanted gemma3 or gemma3_text, got gemma2"),
    "no model": ({"model_type": None}, "model_type: .* got None"),
    "text not an object": ({"text_config": [1]}, "text_config: wanted an object, got list"),
    "too few layer types": ({"layer_types": ["sliding_attention"] * 33}, "layer_types: wanted .* = 34"),
    "layer types no list": ({"layer_types": "full_attention"}, "layer_types: wanted a list"),
    "unknown layer type": ({"layer_types": ["chunked_attention"] * 34}, "layer_types: wanted sliding_attention"),
    "other pattern": (
        {"layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5 + ["full_attention"] * 4},
        "layer_types: wanted sliding_attention with full_attention at a fixed period",
    ),
    "softcap": ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: wanted None, got 50.0"),
    "final softcap": ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: wanted None, got 30.0"),
    "activation": ({"hidden_activation": "gelu"}, "hidden_activation: wanted gelu_pytorch_tanh, got gelu"),
    "bias": ({"attention_bias": True}, "attention_bias: wanted False, got True"),
    "two-sided": ({"use_bidirectional_attention": True}, "use_bidirectional_attention: wanted False"),
    "yarn": ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, "rope_scaling.rope_type: wanted default or"),
    "scaling a word": ({"rope_scaling": "linear"}, "rope_scaling: wanted an object, got linear"),
    "scaling a list": ({"rope_scaling": [8.0]}, "rope_scaling: wanted an object"),
    "no factor": ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor: wanted a number"),
    "factor 0": ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "rope_factor: wanted .*, got 0"),
    "nested yarn": (with_rope("full_attention", rope_type="yarn"), "rope_parameters.full_attention.rope_type"),
    "scaled local layers": (
        with_rope("sliding_attention", rope_type="linear", factor=8.0),
        "rope_parameters.sliding_attention: wanted no scaling on local layers",
    ),
    "nested not nested": ({"rope_parameters": {"rope_theta": 1e6}}, "rope_parameters.full_attention: wanted an obj"),
    "nested a list": ({"rope_parameters": []}, "rope_parameters.full_attention: wanted an object"),
    "base not a number": (with_rope("full_attention", rope_theta="1e6"), "rope_base_global: wanted a number"),
    "window 0": ({"sliding_window": 0}, "window: wanted a finite number > 0, got 0"),
    "window negative": ({"sliding_window": -1}, "window: wanted a finite number > 0, got -1"),
    "heads": ({"num_attention_heads": 7}, "query_heads: wanted a multiple of kv_heads = 4, got 7"),
    "odd head_dim": ({"head_dim": 255}, "head_dim: wanted an even number"),
    "eps 0": ({"rms_norm_eps": 0.0}, "rms_eps: wanted a finite number > 0, got 0.0"),
    "eps overflow": ({"rms_norm_eps": float("inf")}, "rms_eps: wanted a finite number > 0, got inf"),
    "float size": ({"hidden_size": 2560.0}, "width: wanted an integer, got 2560.0"),
    "true": ({"num_hidden_layers": True}, "layers: wanted an integer, got True"),
    "scalar 0": ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar: wanted a finite number > 0, got 0"),
    "scalar true": ({"query_pre_attn_scalar": True}, "query_pre_attn_scalar: wanted a finite number > 0"),
    "scalar of 400 digits": ({"query_pre_attn_scalar": 10**400}, "query_pre_attn_scalar: wanted"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "layers: wanted at most"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_configs_that_are_not_gemma_3_are_refused_by_the_name_of_the_setting(name):
    settings, says = REFUSED[name]
    with pytest.raises(BadInput, match=f"^the file: {says}") as refusal:
        config_from_hugging_face(SPARSE["4b"] | SHARED | settings, "the file")
    assert len(str(refusal.value).splitlines()) == 1


SETTINGS = sorted({*CLASS_DEFAULTS, "rope_scaling", "rope_parameters", "layer_types", "text_config"})


@given(st.dictionaries(st.sampled_from(SETTINGS), JSON, max_size=3))
def test_any_json_is_read_or_refused_in_one_line(settings):
    with read_or_refused():
        config_from_hugging_face(SPARSE["4b"] | SHARED | settings)


BROKEN_JSON = {
    "empty": (b"", "file: wanted content, got 0 bytes"),
    "no JSON": (b"{a: 1}", "JSON: wanted JSON in UTF-8"),
    "list": (b"[1]", "JSON: wanted a JSON object"),
    "NaN": (b'{"rms_norm_eps": NaN}', "finite numbers, got NaN"),
    "infinity": (b'{"rms_norm_eps": -Infinity}', "finite numbers, got -Infinity"),
    "key twice": (b'{"head_dim": 256, "head_dim": 128}', "every key once, got 'head_dim' twice"),
    "key twice inside": (b'{"text_config": {"a": 1, "b": 2, "a": 1}}', "got 'a' twice"),
    "no UTF-8": (b'{"a": "\xff"}', "JSON in UTF-8"),
    "deep": (b'{"a":' + b"[" * 200_000, "JSON in UTF-8"),
    "integer of 5000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "JSON in UTF-8"),
}


@pytest.mark.parametrize("name", BROKEN_JSON)
def test_broken_json_is_refused_in_one_line(tmp_path, name):
    content, says = BROKEN_JSON[name]
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=says) as refusal:
        read_json(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


def test_files_that_are_missing_folders_or_huge_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"config\.json: file: wanted a readable file, got No such file"):
        read_json(tmp_path / "config.json")
    with pytest.raises(BadInput, match="wanted a readable file, got a folder"):
        read_json(tmp_path)
    huge = tmp_path / "huge.json"
    huge.touch()
    os.truncate(huge, 2**30)  # sparse: a gigabyte that takes no room
    with pytest.raises(BadInput, match=f"size: wanted at most {LARGEST_JSON} bytes, got 1073741824"):
        read_json(huge)
