"""RMSNorm: against the scalar oracle, and what must hold for any row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive
from support.strategies import seeds

from ref.ops.norm import rms_norm, rms_norm_jit

BOTH = pytest.mark.parametrize("norm", [rms_norm, rms_norm_jit])


@BOTH
@given(seed=seeds, width=st.integers(1, 40), exponent=st.integers(-12, 12))
def test_against_the_oracle(norm, seed, width, exponent):
    random = np.random.default_rng(seed)
    x, scale = random.standard_normal((3, width)) * 10.0**exponent, random.standard_normal(width)
    wanted = [naive.rms_norm(row, scale, 1e-6) for row in x.tolist()]
    np.testing.assert_allclose(norm(x, scale, 1e-6), wanted, rtol=1e-13)


@BOTH
@given(seed=seeds, exponent=st.integers(-20, 20))
def test_scale_invariant_where_eps_is_negligible(norm, seed, exponent):
    random = np.random.default_rng(seed)
    x, scale = random.standard_normal((3, 17)), random.standard_normal(17)
    # a power of two changes no mantissa, so only eps can show
    np.testing.assert_allclose(norm(x * 2.0**exponent, scale, 1e-30), norm(x, scale, 1e-30), rtol=1e-14)


@BOTH
def test_output_has_unit_root_mean_square_with_zero_gain(norm):
    y = norm(np.random.default_rng(0).standard_normal((5, 640)), np.zeros(640), 1e-12)
    np.testing.assert_allclose(np.sqrt(np.mean(y**2, axis=-1)), 1.0, rtol=1e-11)


@BOTH
def test_gain_is_zero_centred(norm):
    x = np.random.default_rng(1).standard_normal((2, 8))
    np.testing.assert_allclose(norm(x, np.ones(8), 1e-6), 2 * norm(x, np.zeros(8), 1e-6), rtol=1e-15)
    assert not norm(x, np.full(8, -1.0), 1e-6).any()


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_zeros_stay_zero(norm, dtype):
    x = np.zeros((2, 3, 4), dtype)
    x[0, 1] = 1
    y = norm(x, np.full(4, 0.5, dtype), 1e-6)
    assert y.dtype == dtype
    assert y.shape == x.shape
    assert not y[1].any()
    assert np.isfinite(y).all()


@BOTH
def test_extremes_of_float32_neither_overflow_nor_vanish(norm):
    x = np.array([[3e38, -3e38], [1e-30, 1e-30]], np.float32)
    y = norm(x, np.zeros(2, np.float32), 1e-6)
    np.testing.assert_allclose(y[0], [1, -1], rtol=1e-6)  # a float32 sum of squares would be infinite
    np.testing.assert_allclose(y[1], 1e-27, rtol=1e-6)  # eps carries the root


@BOTH
def test_rows_are_independent_and_no_rows_are_fine(norm):
    x = np.random.default_rng(2).standard_normal((4, 6))
    scale = np.linspace(-1, 1, 6)
    np.testing.assert_array_equal(norm(x, scale, 1e-6)[2:], norm(x[2:], scale, 1e-6))
    assert norm(x[:0], scale, 1e-6).shape == (0, 6)


@BOTH
def test_views_are_read_in_their_own_order(norm):
    x = np.random.default_rng(3).standard_normal((6, 4)).T
    np.testing.assert_array_equal(norm(x, np.zeros(6), 1e-6), norm(np.ascontiguousarray(x), np.zeros(6), 1e-6))
