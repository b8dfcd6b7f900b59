"""From logits to a token: the order of the filters, ties, the crossing token, and the draw."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import naive
from support.strategies import seeds

from ref.ops.sampling import draw, filtered_probs, filtered_probs_jit

BOTH = pytest.mark.parametrize("filtered", [filtered_probs, filtered_probs_jit])
LADDER = np.array([5.0, 4.0, 3.0, 2.0, 1.0])  # probabilities .636 .234 .086 .032 .012


def kept(probs):
    return np.flatnonzero(probs).tolist()


@BOTH
@given(
    seed=seeds,
    size=st.integers(1, 40),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, 45),
    top_p=st.floats(0.01, 1),
)
def test_against_the_oracle(filtered, seed, size, temperature, top_k, top_p):
    logits = np.random.default_rng(seed).standard_normal(size)
    sums = np.cumsum(np.sort(naive.filtered_probs(logits.tolist(), temperature, top_k, 1.0))[::-1])
    assume(np.abs(sums - top_p).min() > 1e-12)  # there the last bit of a sum decides
    wanted = naive.filtered_probs(logits.tolist(), temperature, top_k, top_p)
    probs = filtered(logits, temperature, top_k, top_p)
    assert kept(probs) == kept(wanted)
    np.testing.assert_allclose(probs, wanted, rtol=1e-12)


@BOTH
@given(seed=seeds, temperature=st.floats(0.05, 5), top_k=st.integers(0, 30), top_p=st.floats(0.01, 1))
def test_is_a_distribution_that_keeps_order_and_odds(filtered, seed, temperature, top_k, top_p):
    logits = np.random.default_rng(seed).standard_normal(20)
    probs = filtered(logits, temperature, top_k, top_p)
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-14)
    assert probs.argmax() == logits.argmax()
    rest = np.flatnonzero(probs)
    assert set(rest) == set(np.argsort(-logits)[: rest.size])
    odds = np.log(probs[rest] / probs.max())
    np.testing.assert_allclose(odds, (logits[rest] - logits.max()) / temperature, atol=1e-11)


@BOTH
def test_temperature_comes_before_top_p(filtered):
    # at temperature 1 the first token has .636 > .6; at 2 it has only .41, so a second is needed
    assert kept(filtered(LADDER, 1.0, 0, 0.6)) == [0]
    assert kept(filtered(LADDER, 2.0, 0, 0.6)) == [0, 1]


@BOTH
def test_top_k_comes_before_top_p(filtered):
    # of two tokens left by top-k the first has .731 > .7; of all five it had .636
    assert kept(filtered(LADDER, 1.0, 2, 0.7)) == [0]
    assert kept(filtered(LADDER, 1.0, 0, 0.7)) == [0, 1]


@BOTH
@given(seed=seeds, temperature=st.floats(0.05, 5))
def test_top_1_is_greedy(filtered, seed, temperature):
    logits = np.random.default_rng(seed).standard_normal(30)
    for probs in (filtered(logits, temperature, 1), filtered(logits, temperature, 0, 1e-9)):
        assert kept(probs) == [logits.argmax()]
        assert probs.max() == 1


@BOTH
def test_a_tie_at_the_kth_place_is_kept_whole(filtered):
    assert kept(filtered(np.array([1.0, 3.0, 2.0, 2.0, 0.0]), 1.0, 2)) == [1, 2, 3]


@BOTH
def test_a_tie_at_the_crossing_goes_to_the_smaller_id(filtered):
    assert kept(filtered(np.zeros(8), 1.0, 0, 0.375)) == [0, 1, 2]


@BOTH
def test_the_crossing_token_is_kept_and_reaching_p_exactly_is_enough(filtered):
    halves = np.log([0.5, 0.25, 0.125, 0.125])
    assert kept(filtered(halves, 1.0, 0, 0.51)) == [0, 1]
    assert kept(filtered(np.zeros(4), 1.0, 0, 0.5)) == [0, 1]


@BOTH
def test_one_and_zero_keep_everything(filtered):
    assert kept(filtered(LADDER, 1.0, 0, 1.0)) == kept(filtered(LADDER, 1.0, 5, 1.0)) == [0, 1, 2, 3, 4]


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_do_not_overflow(filtered, dtype):
    probs = filtered(np.array([1e30, -1e30, 1e30], dtype), 0.5, 0, 0.9)
    assert probs.dtype == np.float64
    np.testing.assert_array_equal(probs, [0.5, 0, 0.5])


@given(seed=seeds, size=st.integers(1, 20))
def test_draw_gives_each_token_its_share(seed, size):
    probs = filtered_probs(3 * np.random.default_rng(seed).standard_normal(size), 1.0, 5, 0.95)
    n = 1000  # evenly spaced uniforms hit a share of p between p * n - 1 and p * n + 1 times
    counts = np.bincount([draw(probs, (i + 0.5) / n) for i in range(n)], minlength=size)
    assert (np.abs(counts - n * probs) <= 1).all()
    assert not counts[probs == 0].any()


@given(seed=seeds, size=st.integers(1, 50))
def test_draw_stays_inside_at_both_ends(seed, size):
    logits = np.random.default_rng(seed).standard_normal(size)
    probs = filtered_probs(logits, 1.0, 3)
    assert draw(probs, 0.0) == kept(probs)[0]
    assert draw(probs, np.nextafter(1.0, 0.0)) == kept(probs)[-1]
