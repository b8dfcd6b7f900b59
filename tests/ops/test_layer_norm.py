"""LayerNorm of the vision tower: against the scalar oracle and torch, and what must hold for any row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive
from support.strategies import seeds
from support.threads import TWO_THREADS, threads

from ref.ops.norm import layer_norm, layer_norm_jit

BOTH = pytest.mark.parametrize("norm", [layer_norm, layer_norm_jit])


def row_parameters(random, width):
    return random.standard_normal(width), random.standard_normal(width)


@BOTH
@given(seed=seeds, width=st.integers(1, 40), exponent=st.integers(-12, 12))
def test_against_the_oracle(norm, seed, width, exponent):
    random = np.random.default_rng(seed)
    x, (gain, bias) = random.standard_normal((3, width)) * 10.0**exponent, row_parameters(random, width)
    wanted = [naive.layer_norm(row, gain, bias, 1e-6) for row in x.tolist()]
    np.testing.assert_allclose(norm(x, gain, bias, 1e-6), wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.witness
@BOTH
@pytest.mark.parametrize("width", [2, 26, 1152])
def test_against_torch(norm, width):
    import torch

    random = np.random.default_rng(width)
    x, (gain, bias) = 5 + random.standard_normal((2, 7, width)), row_parameters(random, width)
    wanted = torch.nn.functional.layer_norm(torch.tensor(x), (width,), torch.tensor(gain), torch.tensor(bias), 1e-6)
    np.testing.assert_allclose(norm(x, gain, bias, 1e-6), wanted.numpy(), rtol=1e-12, atol=1e-12)


@BOTH
@given(seed=seeds, shift=st.floats(-1e3, 1e3), exponent=st.integers(-20, 20))
def test_neither_a_shift_nor_a_scale_of_a_row_shows_where_eps_is_negligible(norm, seed, shift, exponent):
    random = np.random.default_rng(seed)
    x, (gain, bias) = random.standard_normal((3, 17)), row_parameters(random, 17)
    moved = (x + shift) * 2.0**exponent
    np.testing.assert_allclose(norm(moved, gain, bias, 1e-30), norm(x, gain, bias, 1e-30), rtol=1e-9, atol=1e-11)


@BOTH
def test_rows_have_mean_zero_and_variance_one_before_gain_and_bias(norm):
    y = norm(3 + np.random.default_rng(0).standard_normal((5, 1152)), np.ones(1152), np.zeros(1152), 1e-12)
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axis=-1), 1, rtol=1e-11)  # divides by D, as numpy's var does


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_values_become_the_bias(norm, dtype):
    x = np.full((2, 3, 4), 7, dtype)
    x[0, 1] = [1, 2, 3, 4]
    gain, bias = np.full(4, 0.5, dtype), np.array([1, -2, 3, 0], dtype)
    y = norm(x, gain, bias, 1e-6)
    assert y.dtype == dtype
    assert y.shape == x.shape
    np.testing.assert_array_equal(y[1], np.tile(bias, (3, 1)))
    assert np.isfinite(y).all()


@BOTH
def test_eps_stands_under_the_root(norm):
    x = np.array([[1e-3, -1e-3]])  # variance 1e-6
    y = norm(x, np.ones(2), np.zeros(2), 3e-6)
    np.testing.assert_allclose(y, [[0.5, -0.5]], rtol=1e-14)


@BOTH
def test_a_row_far_from_zero_keeps_its_digits(norm):
    x = np.array([[16777216.0, 16777218.0, 16777220.0]], np.float32)  # squares would cancel, even in float64
    np.testing.assert_allclose(norm(x, np.ones(3), np.zeros(3), 1e-6), [[-(1.5**0.5), 0, 1.5**0.5]], rtol=1e-6)


@BOTH
def test_rows_are_independent_no_rows_are_fine_and_views_are_read_in_their_own_order(norm):
    random = np.random.default_rng(2)
    x, (gain, bias) = random.standard_normal((4, 6)), row_parameters(random, 6)
    np.testing.assert_array_equal(norm(x, gain, bias, 1e-6)[2:], norm(x[2:], gain, bias, 1e-6))
    assert norm(x[:0], gain, bias, 1e-6).shape == (0, 6)
    turned = np.asfortranarray(x)
    np.testing.assert_array_equal(norm(turned, gain, bias, 1e-6), norm(x, gain, bias, 1e-6))


@TWO_THREADS
def test_threads_change_no_bit():
    random = np.random.default_rng(3)
    x, (gain, bias) = random.standard_normal((101, 1152), np.float32), row_parameters(random, 1152)
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(layer_norm_jit(x, gain, bias, 1e-6))
    np.testing.assert_array_equal(*results)
