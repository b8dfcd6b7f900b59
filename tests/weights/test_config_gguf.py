"""GGUF metadata becomes a configuration, with the constants that GGUF leaves to the runtime."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.checkpoints import SMALL, gguf_metadata
from support.refusing import JSON, read_or_refused

from ref.config import SIZES, TextConfig
from ref.errors import BadInput
from ref.weights.config_files import (
    config_from_gguf,
)


def metadata_of(c: TextConfig, **changed) -> dict:
    pairs = gguf_metadata(c) | {key.replace("__", "."): value for key, value in changed.items()}
    whole = {f"gemma3.{key}": value for key, value in pairs.items() if value is not None}
    return {"general.architecture": "gemma3"} | whole


@pytest.mark.parametrize("size", [name for name in SIZES if name not in ("tiny", "4b-pair")])
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
    with pytest.raises(BadInput, match=r"general\.architecture: wanted gemma3, got gemma2"):
        config_from_gguf(metadata_of(SMALL) | {"general.architecture": "gemma2"}, 97)


@given(st.sampled_from(list(metadata_of(SMALL))), JSON | st.just(np.float32(2)))
def test_any_gguf_value_is_read_or_refused_in_one_line(key, value):
    with read_or_refused():
        config_from_gguf(metadata_of(SMALL) | {key: value}, 97)
