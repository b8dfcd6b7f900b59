"""Figures of a tap read off in one pass: those of plain NumPy, with NaN, infinities and padding."""

import numpy as np
import pytest

from ref.measure.scans import PART, all_below, is_of_format, largest_difference, moments
from ref.ops.rounding import bfloat16_values

STRANGE = (np.nan, np.inf, -np.inf)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("place", [0, 7, PART - 1, PART, 2 * PART + 5])
def test_one_value_decides_whether_all_are_below(dtype, place):
    x = np.random.default_rng(place).uniform(-1, 1, 2 * PART + 6).astype(dtype)
    assert all_below(x, 1)
    assert all_below(x)
    for value in (1, -1):
        x[place] = value
        assert not all_below(x, 1)
        assert all_below(x)
    for value in STRANGE:
        x[place] = value
        assert not all_below(x)


def test_of_strided_values_and_of_none():
    x = np.ones((4, 6))
    x[:, 1::2] = np.nan
    assert all_below(x[:, ::2])
    assert not all_below(x.T)
    assert all_below(np.zeros((0, 3), np.float32))


@pytest.mark.parametrize("strange", [0.0, *STRANGE])
def test_largest_difference_is_numpys(strange):
    rng = np.random.default_rng(2)
    value, truth = rng.standard_normal((2, 5, 9), np.float32), rng.standard_normal((2, 5, 9))
    valid = np.array([True, False, True, True, False])
    value[1, 1] = np.nan  # of padding
    value[0, 3, 4] += np.float32(strange)
    wanted = np.abs(value - truth)[:, valid].max()
    np.testing.assert_equal(largest_difference(value, truth, valid), wanted)


def test_no_tokens_differ_by_nothing():
    assert largest_difference(np.ones((1, 2, 3)), np.zeros((1, 2, 3)), np.zeros(2, bool)) == 0


def test_moments_are_sums_of_powers():
    x = np.random.default_rng(3).standard_normal((40, 50))
    np.testing.assert_allclose(moments(x), [(x**2).sum(), (x**4).sum()], rtol=1e-13)


@pytest.mark.parametrize("place", [0, 1023, 1024, 2999])
def test_a_format_is_that_of_every_value(place):
    x = np.random.default_rng(0).standard_normal(3000).astype(np.float32)
    narrow = bfloat16_values(x)
    assert is_of_format(x, "float32")
    assert is_of_format(narrow, "bfloat16")
    assert is_of_format(narrow[::2], "bfloat16")
    for value in (np.float32(1 / 3), np.float32(np.nan), np.float32(np.inf)):
        wrong = narrow.copy()
        wrong[place] = value
        assert not is_of_format(wrong, "bfloat16")
        assert is_of_format(wrong, "float32") is bool(np.isfinite(value))
    assert not is_of_format(narrow, "float16")
    assert not is_of_format(x.astype(np.float64), "float32")
