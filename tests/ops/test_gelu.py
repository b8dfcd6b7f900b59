"""GELU in its tanh form, and the gate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive

from ref.ops.gelu import geglu, geglu_jit, gelu_tanh, gelu_tanh_jit

GELU = pytest.mark.parametrize("gelu", [gelu_tanh, gelu_tanh_jit])
GEGLU = pytest.mark.parametrize("gate", [geglu, geglu_jit])
values = st.floats(-30, 30)


@GELU
@given(x=values)
def test_against_the_oracle(gelu, x):
    # rtol where the value is far from 0; atol where 1 + tanh cancels
    np.testing.assert_allclose(gelu(np.array([x])), naive.gelu_tanh(x), rtol=1e-14, atol=1e-14)


@GELU
@given(x=values)
def test_odd_part_is_half_of_x(gelu, x):
    left, right = gelu(np.array([-x, x]))
    np.testing.assert_allclose(right - left, x, rtol=1e-14, atol=1e-14)


@GELU
def test_limits_are_zero_and_x_and_huge_values_do_not_overflow(gelu):
    x = np.array([-3e38, -1e4, -0.0, 0.0, 1e4, 3e38], np.float32)
    with np.errstate(over="ignore"):  # x^2, of which plain Python warns
        y = gelu(x)
    np.testing.assert_array_equal(y, [0, 0, 0, 0, np.float32(1e4), np.float32(3e38)])


@GELU
def test_has_one_minimum(gelu):
    y = gelu(np.linspace(-5, 5, 2001))
    lowest = int(y.argmin())
    assert -0.1701 < y[lowest] < -0.17
    assert (np.diff(y[lowest:]) > 0).all()
    assert (np.diff(y[: lowest + 1]) < 0).all()


@GELU
def test_the_exact_form_is_4_73e_4_away_at_2_70(gelu):
    x = np.linspace(-6, 6, 12_001)
    apart = np.abs(gelu(x) - [naive.gelu_erf(value) for value in x])
    assert 4.72e-4 < apart.max() < 4.74e-4
    assert abs(abs(x[apart.argmax()]) - 2.70) < 0.01


@GEGLU
@given(gate_value=values, up_value=values)
def test_gate_against_the_oracle(gate, gate_value, up_value):
    wanted = naive.geglu([gate_value], [up_value])
    result = gate(np.array([gate_value]), np.array([up_value]))
    np.testing.assert_allclose(result, wanted, rtol=1e-14, atol=1e-12)


@GEGLU
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gate_keeps_shape_and_dtype_and_takes_views_and_nothing(gate, dtype):
    a, b = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(dtype)
    y = gate(a.transpose(2, 0, 1), b.transpose(2, 0, 1))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, gate(a, b).transpose(2, 0, 1))
    assert gate(a[:0], b[:0]).shape == (0, 4, 5)


@GEGLU
def test_gate_and_up_are_not_interchangeable(gate):
    a, b = np.array([1.0, -2.0]), np.array([-2.0, 1.0])
    assert np.abs(gate(a, b) - gate(b, a)).max() > 0.1


@GEGLU
def test_gate_rounds_to_float32_once(gate):
    a, b = np.random.default_rng(1).standard_normal((2, 500)).astype(np.float32)
    once = gate(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(gate(a, b), once)
