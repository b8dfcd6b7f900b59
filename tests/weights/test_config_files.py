"""Configurations as other projects write them; transformers' own class is the witness of what a sparse one means."""

import json

import pytest
from support.hub_configs import NESTED, SHARED, SPARSE, as_written, sparse

from ref.config import SIZES
from ref.weights.config_files import (
    CLASS_DEFAULTS,
    config_from_hugging_face,
)
from ref.weights.export import config_to_hugging_face


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
