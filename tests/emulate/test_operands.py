"""What operands are rounded to, held against torch's and ml_dtypes' formats and against figures of an H200."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ref.emulate.operands import OPERANDS, narrow_product, to_float8, to_tf32

FLOATS = arrays(np.float32, 8, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


def off(y, truth):
    return np.linalg.norm(y - truth) / np.linalg.norm(truth)


@given(FLOATS)
def test_tf32_is_the_nearest_number_with_10_bits_ties_to_even(x):
    got = to_tf32(x).astype(np.float64)
    with np.errstate(all="ignore"):
        step = np.exp2(np.floor(np.log2(np.maximum(np.abs(x.astype(np.float64)), 2.0**-126)))) * 2.0**-10
    tie = np.abs(x / step - np.floor(x / step) - 0.5) == 0
    np.testing.assert_array_equal(got / step, np.where(np.isfinite(got), np.rint(x.astype(np.float64) / step), got))
    assert ((np.rint(x / step) % 2 == 0) | ~tie).all()


def test_tf32_leaves_what_is_not_finite():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    np.testing.assert_array_equal(to_tf32(x), x)


def test_float16_and_tf32_agree_where_float16_is_normal():
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(OPERANDS["float16"](x), to_tf32(x))


def test_float8_has_one_scale_and_keeps_the_largest():
    x = np.array([448.0, -3.0, 0.1, 0.0], np.float32) * 7
    want = (x / 7).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * 7
    np.testing.assert_allclose(to_float8(x), want, rtol=1e-6)
    np.testing.assert_array_equal(to_float8(np.zeros(3, np.float32)), np.zeros(3))


@pytest.mark.parametrize(
    ("operand", "least", "most"),
    # on an H200: TF32 2.9e-4; float8 with per-tensor scales 3.7e-2 from the product of what was not rounded
    [("tf32", 2.5e-4, 3.3e-4), ("bfloat16", 2e-3, 2.8e-3), ("float8", 3.3e-2, 4.2e-2)],
)
def test_errs_as_measured(operand, least, most):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((16, 2560), np.float32), rng.standard_normal((2560, 300), np.float32)
    rounded = OPERANDS[operand]
    product = rounded(a).astype(np.float64) @ rounded(b).astype(np.float64)
    assert least < off(product, a.astype(np.float64) @ b.astype(np.float64)) < most


def test_narrow_sums_err_as_measured():
    rng = np.random.default_rng(3)
    a, b = (
        to_float8(rng.standard_normal((16, 2560), np.float32)),
        to_float8(rng.standard_normal((2560, 300), np.float32)),
    )
    truth = a.astype(np.float64) @ b.astype(np.float64)
    assert 5e-4 < off(narrow_product(a, b, "float8"), truth) < 2e-3  # an H200 with use_fast_accum: 9.9e-4
    half = narrow_product(OPERANDS["float16"](a), OPERANDS["float16"](b), "float16")
    assert 1e-3 < off(half, truth) < 5e-3
    assert (half == half.astype(np.float16)).all()
