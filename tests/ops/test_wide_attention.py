"""Attention in float64 by matrix products: equal to the definition, and to the kernels of few queries."""

import numpy as np
import pytest
from numba import config

from ref.ops import attention
from ref.ops.wide_attention import MANY, mix_is_wide, scores_are_wide

CLOSE = 1e-13
SHAPES = [(1, MANY, 4, 1, 256, 40), (2, 70, 6, 2, 12, 70), (1, 300, 2, 2, 8, 301)]  # B T N K H S


def made(B, T, N, K, H, S):
    rng = np.random.default_rng(T)
    q, k, v = (rng.standard_normal(shape) for shape in ((B, T, N, H), (B, S, K, H), (B, S, K, H)))
    probs = rng.random((B, N, T, S)) * (np.arange(S) <= np.arange(T)[:, None] + S - T)
    return q, k, v, probs


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_the_definition(shape):
    q, k, v, probs = made(*shape)
    assert scores_are_wide(q)
    assert mix_is_wide(probs, v)
    np.testing.assert_allclose(attention.scores_jit(q, k, 0.3), attention.scores(q, k, 0.3), rtol=CLOSE, atol=CLOSE)
    np.testing.assert_allclose(attention.mix_jit(probs, v), attention.mix(probs, v), rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_a_strange_key_or_query_is_strange_where_it_is_looked_at(strange):
    q, k, _, _ = made(*SHAPES[1])
    q[0, 3, 1, 5] = strange
    k[1, 7, 1, 2] = strange
    with np.errstate(invalid="ignore"):
        ours, expected = attention.scores_jit(q, k, 0.3), attention.scores(q, k, 0.3)
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(expected))
    assert not np.isfinite(ours).all()


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_a_strange_value_that_nobody_sees_is_not_mixed_in(strange):
    _, _, v, probs = made(*SHAPES[1])
    v[:, -1] = strange  # the last query alone sees it
    assert not mix_is_wide(probs, v)
    ours = attention.mix_jit(probs, v)
    assert np.isfinite(ours[:, :-1]).all()
    assert not np.isfinite(ours[:, -1]).any()


def test_a_strange_probability_stays_in_its_row():
    _, _, v, probs = made(*SHAPES[1])
    probs[0, 2, 9, 4] = np.nan
    strange = np.isnan(attention.mix_jit(probs, v))
    assert strange[0, 9, 2].all()
    assert strange.sum() == v.shape[-1]


@pytest.mark.skipif(config.DISABLE_JIT, reason="products are NumPy's then, whose bits depend on the rows beside")
def test_other_queries_change_no_bit():
    q, k, v, probs = made(*SHAPES[2])
    np.testing.assert_array_equal(attention.scores_jit(q[:, :100], k, 0.3), attention.scores_jit(q, k, 0.3)[:, :, :100])
    np.testing.assert_array_equal(attention.mix_jit(probs[:, :, :100], v), attention.mix_jit(probs, v)[:, :100])


def test_queries_that_see_nothing_mix_nothing():
    _, _, v, probs = made(*SHAPES[2])
    probs[:, :, :140] = 0
    np.testing.assert_array_equal(attention.mix_jit(probs, v)[:, :140], 0)
    np.testing.assert_allclose(attention.mix_jit(probs, v), attention.mix(probs, v), rtol=CLOSE, atol=CLOSE)
