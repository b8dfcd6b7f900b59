"""Rotary positions: against complex numbers, and the properties that make them relative."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive
from support.strategies import seeds

from ref.ops.rope import rope_table, rotate, rotate_jit

BOTH = pytest.mark.parametrize("turn", [rotate, rotate_jit])
positions = st.integers(0, 131_071)
head_dims = st.sampled_from([2, 4, 10, 16])
bases = st.sampled_from([(1e4, 1.0), (1e6, 1.0), (1e6, 8.0)])


def at(turn, row, position, base=1e4, factor=1.0):
    """Rotate one head, [H], to one position."""
    cos, sin = rope_table([[position]], row.size, base, factor, row.dtype)
    return turn(row[None, None, None], cos, sin)[0, 0, 0]


@BOTH
@given(seed=seeds, head_dim=head_dims, position=positions, kind=bases)
def test_against_complex_numbers(turn, seed, head_dim, position, kind):
    row = np.random.default_rng(seed).standard_normal(head_dim)
    # one ulp of an angle of 1e5 radians is 1.5e-11
    np.testing.assert_allclose(at(turn, row, position, *kind), naive.rotate(row, position, *kind), atol=1e-10)


@BOTH
@given(seed=seeds, p=st.integers(0, 4000), q=st.integers(0, 4000), shift=st.integers(0, 60_000), kind=bases)
def test_scores_depend_on_relative_position_only(turn, seed, p, q, shift, kind):
    query, key = np.random.default_rng(seed).standard_normal((2, 10))
    here = at(turn, query, p, *kind) @ at(turn, key, q, *kind)
    there = at(turn, query, p + shift, *kind) @ at(turn, key, q + shift, *kind)
    assert math.isclose(here, there, abs_tol=1e-9)


@BOTH
@given(seed=seeds, position=positions, kind=bases)
def test_a_rotation_keeps_the_length_of_each_pair(turn, seed, position, kind):
    row = np.random.default_rng(seed).standard_normal(10)
    turned = at(turn, row, position, *kind)
    np.testing.assert_allclose(np.hypot(turned[:5], turned[5:]), np.hypot(row[:5], row[5:]), rtol=1e-14)


@BOTH
def test_position_zero_changes_nothing(turn):
    row = np.random.default_rng(0).standard_normal(10)
    np.testing.assert_array_equal(at(turn, row, 0), row)


@BOTH
@pytest.mark.parametrize("position", [1, 2, 1000])
def test_interleaved_pairing_differs(turn, position):
    row = np.random.default_rng(1).standard_normal(10)
    assert np.abs(at(turn, row, position) - naive.rotate_interleaved(row, position, 1e4)).max() > 0.1


def test_heads_of_two_channels_have_one_pairing_only():
    row = np.array([0.3, -1.2])
    np.testing.assert_allclose(naive.rotate_interleaved(row, 5, 1e4), naive.rotate(row, 5, 1e4), rtol=1e-15)


@BOTH
@given(seed=seeds)
def test_each_token_turns_all_its_heads_by_its_own_position(turn, seed):
    random = np.random.default_rng(seed)
    x, places = random.standard_normal((2, 3, 4, 10)), random.integers(0, 50, (2, 3))
    y = turn(x, *rope_table(places, 10, 1e4, 1.0, np.float64))
    for b, t, n in np.ndindex(2, 3, 4):
        np.testing.assert_allclose(y[b, t, n], naive.rotate(x[b, t, n], int(places[b, t]), 1e4), atol=1e-13)


def test_first_pair_turns_by_one_radian_a_token_and_a_base_slows_the_others():
    cos, sin = rope_table([[1]], 256, 1e4, 1.0, np.float64)
    assert cos[0, 0, 0] == math.cos(1)
    slow = np.arctan2(sin, cos)[0, 0]
    assert (np.diff(slow) < 0).all()
    np.testing.assert_allclose(slow[-1], 1e4 ** (-254 / 256), rtol=1e-12)


@given(position=st.integers(0, 16_000))
def test_factor_eight_is_an_eighth_of_the_position(position):
    scaled = rope_table([[8 * position]], 16, 1e6, 8.0, np.float64)
    np.testing.assert_array_equal(scaled, rope_table([[position]], 16, 1e6, 1.0, np.float64))


def test_the_released_settings_all_differ():
    tables = [rope_table([[1000]], 256, base, factor, np.float64)[0] for base, factor in [(1e4, 1), (1e6, 1), (1e6, 8)]]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert np.abs(tables[a] - tables[b]).max() > 0.5


def test_float32_tables_are_rounded_once_even_at_the_end_of_the_context():
    wide = rope_table([[131_071]], 256, 1e4, 1.0, np.float64)
    narrow = rope_table([[131_071]], 256, 1e4, 1.0, np.float32)
    assert narrow[0].dtype == np.float32
    np.testing.assert_array_equal(narrow, np.float32(wide))  # angles formed in float32 would be 1e-3 off


@BOTH
def test_float32_stays_float32_and_no_tokens_are_fine(turn):
    x = np.ones((1, 2, 3, 4), np.float32)
    assert turn(x, *rope_table([[3, 4]], 4, 1e4, 1.0, np.float32)).dtype == np.float32
    empty = rope_table(np.zeros((1, 0), int), 4, 1e4, 1.0, np.float32)
    assert turn(x[:, :0], *empty).shape == (1, 0, 3, 4)
