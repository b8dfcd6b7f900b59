"""Vectors: compiled, each function does what its Python says; and the exponential against NumPy's."""

import operator

import numpy as np
import pytest
from numba import njit

from ref.ops import simd
from ref.ops.simd import (
    BYTES,
    CACHE_LINE,
    add_to_exponent,
    aligned,
    exp,
    fma,
    larger,
    like,
    load,
    spread,
    store,
    turn_16,
)
from ref.ops.simd import where_less as choose

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def three(dtype):
    """[3, L]: any numbers, with some that are equal, infinite, or none."""
    x = np.random.default_rng(0).standard_normal((3, BYTES // np.dtype(dtype).itemsize)).astype(dtype)
    x[0, 1], x[1, 2], x[:2, 3], x[0, 4], x[:2, 5] = np.inf, -np.inf, 1.5, np.nan, 0
    return x


@njit
def _vectors(x, y, z, out):
    L = x.size
    a, b, c = load(x, 0), load(y, 0), load(z, 0)
    store(out, 0, fma(a, b, c))
    store(out, L, choose(a, b, c, a))
    store(out, 2 * L, larger(b, a))
    store(out, 3 * L, a + b)
    store(out, 4 * L, a - b)
    store(out, 5 * L, a * b)
    store(out, 6 * L, spread(z, 2))
    store(out, 7 * L, like(a, 0.1))


@njit
def _numbers(x, y, z, out):
    for i in range(x.size):
        row = out[i :: x.size]
        row[0] = fma(x[i], y[i], z[i])
        row[1] = choose(x[i], y[i], z[i], x[i])
        row[2] = larger(y[i], x[i])
        row[3], row[4], row[5] = x[i] + y[i], x[i] - y[i], x[i] * y[i]
        row[6], row[7] = z[2], like(x[i], 0.1)


@DTYPES
@pytest.mark.parametrize("kernel", [_vectors, _numbers])
def test_compiled_vectors_and_numbers_are_what_python_says(kernel, dtype):
    x, y, z = three(dtype)
    out = np.zeros(8 * x.size, dtype)
    kernel(x, y, z, out)
    with np.errstate(invalid="ignore"):
        wanted = [fma(x, y, z), choose(x, y, z, x), larger(y, x), x + y, x - y, x * y, spread(z, 2), like(x, 0.1)]
    np.testing.assert_array_max_ulp(out.reshape(8, -1)[0], wanted[0], maxulp=1)  # Python may round twice
    np.testing.assert_array_equal(out.reshape(8, -1)[1:], wanted[1:])
    assert all(row.dtype == dtype for row in wanted)


def test_fma_rounds_once():
    x = np.array([1 + 2**-12], np.float32)  # x * x = 1 + 2^-11 + 2^-24, the last of which float32 cannot hold
    assert fma(x, x, -x * x)[0] == 2**-24
    out = np.zeros(1, np.float32)
    njit(lambda x, out: operator.setitem(out, 0, fma(x[0], x[0], -x[0] * x[0])))(x, out)
    assert out[0] == 2**-24


@njit
def _exp_of_vectors(x, out):
    for i in range(0, x.size, BYTES // x.itemsize):
        store(out, i, exp(load(x, i)))


@njit
def _exp_of_numbers(x, out):
    for i in range(x.size):
        out[i] = exp(x[i])


def _exp_in_python(x, out):
    out[: x.size] = exp(x)


EXP = pytest.mark.parametrize("kernel", [_exp_of_vectors, _exp_of_numbers, _exp_in_python])


@EXP
@pytest.mark.parametrize(("dtype", "smallest"), [(np.float32, -87.0), (np.float64, -708.0)])
def test_exp_is_within_an_ulp_and_zero_below_the_normal_numbers(kernel, dtype, smallest):
    x = np.concatenate([-np.linspace(0, 1, 2**15), np.linspace(smallest, 0, 2**15)]).astype(dtype)
    y = np.empty_like(x)
    kernel(x, y)
    # NumPy's exp in twice the digits, where it has them
    wanted = np.exp(x.astype(np.longdouble))
    assert (np.abs(y - wanted) <= np.spacing(wanted.astype(dtype))).all()
    assert y[0] == 1
    edges = np.full(BYTES // x.itemsize, -np.inf, dtype)
    edges[:4] = np.nan, np.nextafter(dtype(smallest), dtype(-np.inf)), np.finfo(dtype).min, smallest
    kernel(edges, y)
    np.testing.assert_array_equal(y[:3], [np.nan, 0, 0])
    assert y[3] > np.finfo(dtype).tiny
    assert not y[4 : edges.size].any()


@DTYPES
def test_add_to_exponent_multiplies_by_a_power_of_two(dtype):
    x, n = np.array([1.5, -1.25, 1.0], dtype), np.array([3, -7, 0])
    rounder = 1.5 * 2 ** np.finfo(dtype).nmant
    np.testing.assert_array_equal(add_to_exponent(x, (rounder + n).astype(dtype)), x * 2.0**n)


@DTYPES
@pytest.mark.parametrize("shape", [(1,), (3, 5)])
def test_aligned_arrays_begin_with_a_cache_line(dtype, shape):
    for _ in range(20):
        x = aligned(shape, dtype)
        assert x.ctypes.data % CACHE_LINE == 0
        assert (x.shape, x.dtype, x.flags.c_contiguous) == (shape, dtype, True)


def test_vectors_of_other_lengths_are_other_types():
    float32, float64 = (
        simd._whole(simd.types.Array(kind, 1, "C")) for kind in (simd.types.float32, simd.types.float64)
    )
    assert float32 != float64
    assert float32 != simd.Vector(simd.types.float32, float32.count // 2)
    assert (float32.count, float64.count) == (BYTES // 4, BYTES // 8)


def _turned(a, b):
    turn_16(a, 5, 23, b, 3, 19)


@DTYPES
def test_a_square_is_turned(dtype):
    a, i = np.arange(400, dtype=dtype), np.arange(16)
    wanted = np.zeros(320, dtype)
    wanted[3 + 19 * i[:, None] + i] = a[5 + 23 * i + i[:, None]]
    for run in (_turned, njit(_turned)):
        b = np.zeros(320, dtype)
        run(a, b)
        np.testing.assert_array_equal(b, wanted)
