"""The tiled product: any shape, any number of threads, of rows beside and of outputs beside: the same bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config
from support.strategies import dtypes, seeds
from support.threads import TWO_THREADS, threads

from ref.ops.product import DEPTH, OUTPUTS, ROWS, multiply, panels_of


def product(x, w):
    out = np.full((len(x), len(w) + 2), 7, x.dtype)
    multiply(panels_of(x), w, out[:, 1:-1])
    assert (out[:, 0] == 7).all()
    assert (out[:, -1] == 7).all()
    return out[:, 1:-1]


@given(
    seed=seeds,
    T=st.integers(1, 150),
    O=st.integers(1, 2 * OUTPUTS + 5),
    I=st.sampled_from([1, 2, 15, 16, 17, DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + 3]),
    dtype=dtypes,
)
def test_it_is_the_product_within_the_bound_of_its_sums(seed, T, O, I, dtype):  # noqa: E741
    random = np.random.default_rng(seed)
    x, w = random.standard_normal((T, I)).astype(dtype), random.standard_normal((O, I)).astype(dtype)
    exact = x.astype(np.longdouble) @ w.T.astype(np.longdouble)
    bound = (
        (min(I, DEPTH) + I // DEPTH + 1) * np.finfo(dtype).eps * (np.abs(x).astype(float) @ np.abs(w).T.astype(float))
    )
    assert (np.abs(product(x, w) - exact) <= bound + np.finfo(dtype).tiny).all()


@pytest.mark.skipif(config.DISABLE_JIT, reason="NumPy multiplies")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sum_does_not_depend_on_the_rows_and_outputs_beside_it(dtype):
    random = np.random.default_rng(0)
    x, w = random.standard_normal((ROWS + 70, 300)).astype(dtype), random.standard_normal((101, 300)).astype(dtype)
    whole = product(x, w)
    np.testing.assert_array_equal(product(x[3:80].copy(), w), whole[3:80])
    np.testing.assert_array_equal(product(x, w[37:74].copy()), whole[:, 37:74])


@TWO_THREADS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit_of_a_product(dtype):
    random = np.random.default_rng(1)
    x, w = random.standard_normal((2 * ROWS + 9, 257)).astype(dtype), random.standard_normal((203, 257)).astype(dtype)
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(product(x, w))
    np.testing.assert_array_equal(*results)


def test_sums_of_ones_are_exact_and_each_output_is_its_own():
    x = np.tile(np.arange(1, 71, dtype=np.float32)[:, None], (1, 40))
    w = np.tile(np.arange(1, 40, dtype=np.float32)[:, None], (1, 40))
    np.testing.assert_array_equal(product(x, w), 40 * np.outer(np.arange(1, 71), np.arange(1, 40)))


def test_numbers_that_are_none_stay_where_they_are():
    x, w = np.ones((70, 20), np.float32), np.ones((9, 20), np.float32)
    x[5, 3], w[2, 7] = np.nan, np.inf
    y = product(x, w)
    assert np.isnan(y[5]).all()
    assert (np.delete(y, 5, 0)[:, 2] == np.inf).all()
    assert np.isfinite(np.delete(np.delete(y, 5, 0), 2, 1)).all()
