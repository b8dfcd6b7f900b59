"""The table of sizes against the published values, and which configurations are refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.refusing import read_or_refused

from ref.config import HAS_VISION, SIGLIP, SIZES, TextConfig, check_config, find_size
from ref.errors import BadInput

# Gemma 3 Technical Report, google-deepmind/gemma `_gemma3.py` and transformers 5.23 `convert_gemma3_weights.py`
PUBLISHED = {
    #        D    L   N   K    H      F  scalar    W  positions  factor
    "270m": (640, 18, 4, 1, 256, 2048, 256, 512, 32_768, 1),
    "1b": (1152, 26, 4, 1, 256, 6912, 256, 512, 32_768, 1),
    "4b": (2560, 34, 8, 4, 256, 10_240, 256, 1024, 131_072, 8),
    "12b": (3840, 48, 16, 8, 256, 15_360, 256, 1024, 131_072, 8),
    "27b": (5376, 62, 32, 16, 128, 21_504, 168, 1024, 131_072, 8),
}
GLOBAL_LAYERS = {
    "270m": [5, 11, 17],
    "1b": [5, 11, 17, 23],
    "4b": [5, 11, 17, 23, 29],
    "12b": [5, 11, 17, 23, 29, 35, 41, 47],
    "27b": [5, 11, 17, 23, 29, 35, 41, 47, 53, 59],
}
FIELDS = [field for field in TextConfig._fields if field != "name"]
INTEGERS = [field for field in FIELDS if TextConfig.__annotations__[field] is int]
FLOATS = [field for field in FIELDS if field not in INTEGERS]


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_are_the_published_ones(size):
    width, layers, heads, kv_heads, head_dim, ffn, scalar, window, positions, factor = PUBLISHED[size]
    wanted = TextConfig(
        size, width, layers, heads, kv_heads, head_dim, ffn, 1 / math.sqrt(scalar), window, positions, factor,
        vocabulary=262_144, rope_base_local=10_000, rope_base_global=1_000_000, global_every=6, rms_eps=1e-6,
    )  # fmt: skip
    assert SIZES[size]._replace(query_scale=0) == wanted._replace(query_scale=0)
    assert SIZES[size].query_scale == pytest.approx(wanted.query_scale, rel=1e-15)


@pytest.mark.parametrize("size", GLOBAL_LAYERS)
def test_global_layers_windows_and_rotations(size):
    c = SIZES[size]
    for layer in range(c.layers):
        whole = layer in GLOBAL_LAYERS[size]
        assert c.is_global(layer) is whole
        assert c.window_of(layer) == (None if whole else c.window)
        assert c.rope(layer) == ((1_000_000, c.rope_factor) if whole else (10_000, 1))


def test_the_vision_tower_is_siglip_so400m():
    assert HAS_VISION == ("4b", "12b", "27b")
    assert SIGLIP == (1152, 27, 16, 4304, 14, 896, 3, 256, 1e-6)


def test_tiny_has_no_two_equal_axes_and_every_kind_of_layer():
    c = SIZES["tiny"]
    batch, tokens = 2, 19
    axes = [batch, tokens, c.width, c.layers, c.query_heads, c.kv_heads, c.head_dim, c.ffn_width, c.window]
    axes += [c.query_heads // c.kv_heads, c.vocabulary, c.query_heads * c.head_dim, c.kv_heads * c.head_dim]
    assert len(set(axes)) == len(axes)
    assert [c.is_global(i) for i in range(c.layers)] == [False] * 5 + [True, False]


@pytest.mark.parametrize("c", SIZES.values(), ids=SIZES)
def test_the_table_passes_its_own_check(c):
    assert check_config(c) is c
    assert find_size(c.name.upper()) is c


@pytest.mark.parametrize("field", INTEGERS)
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "2", None, [2], 10**400, math.nan])
def test_integers_that_are_none_or_impossible_are_refused_by_name(field, value):
    with pytest.raises(BadInput, match=f"^here: {field}: wanted ") as refusal:
        check_config(SIZES["tiny"]._replace(**{field: value}), "here")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("field", FLOATS)
@pytest.mark.parametrize("value", [0, 0.0, -1.5, True, math.nan, math.inf, -math.inf, "1.0", None, 10**400])
def test_floats_that_are_none_or_impossible_are_refused_by_name(field, value):
    with pytest.raises(BadInput, match=f"^here: {field}: wanted "):
        check_config(SIZES["tiny"]._replace(**{field: value}), "here")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("window", 0, "window: wanted a finite number > 0, got 0"),
        ("query_heads", 11, "query_heads: wanted a multiple of kv_heads = 3, got 11"),
        ("kv_heads", 13, "query_heads: wanted a multiple of kv_heads = 13, got 12"),
        ("head_dim", 9, r"head_dim: wanted an even number \(RoPE rotates pairs\), got 9"),
        ("layers", 10**9, "layers: wanted at most"),  # a checkpoint of 13 tensors a layer, listed in memory
    ],
)
def test_what_a_refusal_says(field, value, says):
    with pytest.raises(BadInput, match=says):
        check_config(SIZES["tiny"]._replace(**{field: value}))


def test_integers_are_good_floats():
    assert check_config(SIZES["tiny"]._replace(rope_factor=8, rope_base_local=10_000))


@given(st.sampled_from(FIELDS), st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()))
def test_any_value_of_any_field_passes_or_is_refused_in_one_line(field, value):
    with read_or_refused():
        check_config(SIZES["tiny"]._replace(**{field: value}))


@pytest.mark.parametrize("name", ["", "2b", "tiny ", "270m\n"])
def test_an_unknown_size_is_refused_and_the_known_are_listed(name):
    with pytest.raises(BadInput, match="size: wanted 270m 1b 4b 12b 27b 4b-pair tiny, got"):
        find_size(name)
