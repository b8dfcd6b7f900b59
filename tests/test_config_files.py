"""Configurations as other projects write them; transformers' own class is the witness of what a sparse one means."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from checkpoints import SMALL, gguf_metadata
from hypothesis import given
from hypothesis import strategies as st

from ref.config import SIZES, TextConfig
from ref.errors import BadInput
from ref.weights.config_files import (
    CLASS_DEFAULTS,
    LARGEST_JSON,
    config_from_gguf,
    config_from_hugging_face,
    read_json,
)
from ref.weights.export import config_to_hugging_face

EXTRA_ROWS = 64
# The hub's config.json of the multimodal sizes says this much of the text model and no more
SPARSE = {
    "4b": {"hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34},
    "12b": {"hidden_size": 3840, "intermediate_size": 15_360, "num_hidden_layers": 48, "num_attention_heads": 16,
            "num_key_value_heads": 8},
    "27b": {"hidden_size": 5376, "intermediate_size": 21_504, "num_hidden_layers": 62, "num_attention_heads": 32,
            "num_key_value_heads": 16, "head_dim": 128, "query_pre_attn_scalar": 168},
}  # fmt: skip
SHARED = {
    "model_type": "gemma3_text",
    "sliding_window": 1024,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
}
NESTED = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}


def sparse(size: str) -> dict:
    return {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "image_token_index": 262_144,
            "text_config": SPARSE[size] | SHARED, "vision_config": {"hidden_size": 1152}}  # fmt: skip


def as_written(c: TextConfig) -> TextConfig:
    return c._replace(vocabulary=c.vocabulary + EXTRA_ROWS)


@pytest.mark.parametrize("size", SPARSE)
def test_a_sparse_multimodal_config_is_filled_with_the_class_defaults(size):
    assert config_from_hugging_face(sparse(size)) == as_written(SIZES[size])


@pytest.mark.parametrize("size", SIZES)
def test_what_we_write_reads_back_the_same(size):
    assert config_from_hugging_face(config_to_hugging_face(SIZES[size])) == SIZES[size]


@pytest.mark.parametrize("size", SPARSE)
def test_rope_in_the_keys_of_5_x(size):
    text = {key: value for key, value in (SPARSE[size] | SHARED).items() if key != "rope_scaling"}
    assert config_from_hugging_face(text | {"rope_parameters": NESTED}) == as_written(SIZES[size])


def test_the_older_word_for_the_type_of_scaling():
    text = SPARSE["4b"] | SHARED | {"rope_scaling": {"factor": 8.0, "type": "linear"}}
    assert config_from_hugging_face(text).rope_factor == 8.0


def test_null_means_silent():
    text = SPARSE["4b"] | SHARED | {"head_dim": None, "layer_types": None, "attn_logit_softcapping": None}
    assert config_from_hugging_face(text) == as_written(SIZES["4b"])


@pytest.mark.parametrize(("every", "layers"), [(1, 3), (2, 6), (6, 7), (4, 3)])
def test_the_period_of_global_layers_is_read_from_the_list_of_layers(every, layers):
    kinds = ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]
    c = config_from_hugging_face(SPARSE["4b"] | SHARED | {"num_hidden_layers": layers, "layer_types": kinds})
    assert [c.is_global(i) for i in range(layers)] == [kind == "full_attention" for kind in kinds]
    c = config_from_hugging_face(SPARSE["4b"] | SHARED | {"sliding_window_pattern": every})
    assert c.global_every == every


@pytest.mark.witness
def test_the_class_defaults_are_those_of_transformers():
    from transformers import Gemma3TextConfig

    assert config_from_hugging_face(Gemma3TextConfig().to_dict()) == config_from_hugging_face(
        {"model_type": "gemma3_text"}
    )
    made = Gemma3TextConfig().to_dict()
    both = CLASS_DEFAULTS.keys() & made.keys()
    assert len(both) >= 11
    assert {key: made[key] for key in both} == {key: CLASS_DEFAULTS[key] for key in both}


@pytest.mark.witness
@pytest.mark.parametrize("size", [name for name in SIZES if name != "tiny"])
def test_what_transformers_makes_of_our_config_reads_back_the_same(size):
    from transformers import Gemma3Config, Gemma3TextConfig

    made = Gemma3TextConfig(**config_to_hugging_face(SIZES[size]))
    assert "rope_parameters" in made.to_dict()
    for written in (made.to_dict(), made.to_diff_dict(), Gemma3Config(text_config=made).to_dict()):
        assert config_from_hugging_face(json.loads(json.dumps(written))) == SIZES[size]


@pytest.mark.witness
@pytest.mark.parametrize("size", SPARSE)
def test_transformers_understands_a_sparse_config_as_we_do(size):
    from transformers import Gemma3Config

    made = Gemma3Config(**json.loads(json.dumps(sparse(size))))
    assert config_from_hugging_face(made.to_dict()) == as_written(SIZES[size])
    layers = made.text_config.layer_types
    assert [kind == "full_attention" for kind in layers] == [SIZES[size].is_global(i) for i in range(len(layers))]


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
    "untied": ({"tie_word_embeddings": False}, "tie_word_embeddings: wanted True, got False"),
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
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["linear"]),
    lambda some: (
        st.lists(some, max_size=3)
        | st.dictionaries(st.sampled_from(["rope_type", "factor", "full_attention", "sliding_attention"]), some)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(SETTINGS), JSON, max_size=3))
def test_any_json_is_read_or_refused_in_one_line(settings):
    try:
        config_from_hugging_face(SPARSE["4b"] | SHARED | settings)
    except BadInput as refusal:
        assert len(str(refusal).splitlines()) == 1


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
    with pytest.raises(BadInput, match="config.json: file: wanted .*, got nothing there"):
        read_json(tmp_path / "config.json")
    with pytest.raises(BadInput, match="a regular file"):
        read_json(tmp_path)
    huge = tmp_path / "huge.json"
    huge.touch()
    os.truncate(huge, 2**30)  # sparse: a gigabyte that takes no room
    with pytest.raises(BadInput, match=f"size: wanted at most {LARGEST_JSON} bytes, got 1073741824"):
        read_json(huge)


def metadata_of(c: TextConfig, **changed) -> dict:
    pairs = gguf_metadata(c) | {key.replace("__", "."): value for key, value in changed.items()}
    whole = {f"gemma3.{key}": value for key, value in pairs.items() if value is not None}
    return {"general.architecture": "gemma3"} | whole


@pytest.mark.parametrize("size", [name for name in SIZES if name != "tiny"])
def test_gguf_metadata_and_the_constants_that_it_leaves_out(size):
    assert config_from_gguf(metadata_of(SIZES[size]), 262_144) == SIZES[size]


def test_only_62_layers_are_scaled_by_width_over_heads():
    c = config_from_gguf(metadata_of(SIZES["27b"]), 262_144)
    assert c.query_scale == 168**-0.5
    c = config_from_gguf(metadata_of(SIZES["27b"], block_count=61), 262_144)
    assert c.query_scale == 128**-0.5


def test_gguf_keys_that_may_be_absent():
    c = config_from_gguf(metadata_of(SMALL, **{"rope__freq_base": None, "attention__value_length": None}), 97)
    assert c == SMALL
    c = config_from_gguf(metadata_of(SMALL, **{"rope__scaling__type": None}), 97)
    assert c.rope_factor == 1.0
    eps = config_from_gguf(metadata_of(SMALL), 97).rms_eps
    assert (eps, type(eps)) == (1e-6, float)  # stored as float32, 9.99999997e-07


NEEDED = [key for key in gguf_metadata(SMALL) if not key.startswith(("rope.freq", "rope.scaling.type"))]


@pytest.mark.parametrize("key", [key for key in NEEDED if key != "attention.value_length"])
def test_a_missing_gguf_key_is_named(key):
    metadata = metadata_of(SMALL)
    del metadata[f"gemma3.{key}"]
    with pytest.raises(BadInput, match=f"^a.gguf: gemma3.{key}: wanted a value, got none$"):
        config_from_gguf(metadata, 97, Path("a.gguf"))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"attention__head_count": 0}, "head_count, embedding_length, key_length: wanted integers > 0"),
        ({"attention__head_count": [4] * 7}, "head_count, embedding_length, key_length: wanted integers"),
        ({"attention__head_count": 5}, "query_heads: wanted a multiple of kv_heads = 2, got 5"),
        ({"attention__head_count": 66, "block_count": 62}, "no more heads than width"),
        ({"attention__key_length": 23, "attention__value_length": 23}, "head_dim: wanted an even number"),
        ({"attention__value_length": 22}, "gemma3.attention.value_length: wanted key_length = 24, got 22"),
        ({"attention__sliding_window": 0}, "window: wanted a finite number > 0, got 0"),
        ({"attention__layer_norm_rms_epsilon": float("nan")}, "rms_eps: wanted a finite number > 0, got nan"),
        ({"attention__layer_norm_rms_epsilon": "1e-6"}, "rms_eps: wanted a number, got '1e-6'"),
        ({"rope__scaling__factor": float("inf")}, "rope_factor: wanted a finite number > 0, got inf"),
        ({"rope__freq_base": -1.0}, "rope_base_global: wanted a finite number > 0, got -1.0"),
        ({"block_count": 2**32 - 1}, "layers: wanted at most"),
        ({"context_length": True}, "max_positions: wanted an integer, got True"),
    ],
)
def test_gguf_metadata_that_is_impossible_is_refused(changed, says):
    with pytest.raises(BadInput, match=f"^a.gguf: .*{says}"):
        config_from_gguf(metadata_of(SMALL, **changed), 97, "a.gguf")


def test_another_architecture_is_refused():
    with pytest.raises(BadInput, match="general.architecture: wanted gemma3, got gemma2"):
        config_from_gguf(metadata_of(SMALL) | {"general.architecture": "gemma2"}, 97)


@given(st.sampled_from(list(metadata_of(SMALL))), JSON | st.just(np.float32(2)))
def test_any_gguf_value_is_read_or_refused_in_one_line(key, value):
    try:
        config_from_gguf(metadata_of(SMALL) | {key: value}, 97)
    except BadInput as refusal:
        assert len(str(refusal).splitlines()) == 1
