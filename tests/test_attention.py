"""Grouped-query attention: a scalar oracle, fused against its three parts, empty rows, rings, blocks."""

from importlib import import_module

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import attention_cases, seeds

from ref.ops import DEFINITION, KERNEL
from ref.ops.attend import attend, attend_jit
from ref.ops.attention import slot_keys, softmax, softmax_jit
from ref.ops.visibility import as_matrix, visible_ranges

fused = import_module("ref.ops.attend")  # `ref.ops.attend` as an attribute is the function

ATTEND = pytest.mark.parametrize("fused", [attend, attend_jit])
SOFTMAX = pytest.mark.parametrize("normalise", [softmax, softmax_jit])
OPS = pytest.mark.parametrize("ops", [DEFINITION, KERNEL], ids=["definition", "kernel"])


def in_three_steps(ops, q, k, v, visible, scale, origin=0):
    return ops.mix(ops.softmax(ops.scores(q, k, scale), visible, origin), v)


def random_qkv(seed, B, T, S, N, K, H, dtype=np.float64):
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal(s).astype(dtype) for s in [(B, T, N, H), (B, S, K, H), (B, S, K, H)])


def causal(B, T, window=None, pads=0):
    return visible_ranges(np.full((B, T), pads), 0, window)


@ATTEND
@settings(max_examples=15)
@given(case=attention_cases(max_tokens=14))
def test_against_the_oracle(fused, case):
    seen = as_matrix(case.visible, case.k.shape[1])
    wanted = [
        naive.attention(*(x[b].tolist() for x in (case.q, case.k, case.v)), seen[b], case.scale)
        for b in range(len(case.q))
    ]
    np.testing.assert_allclose(fused(*case), wanted, atol=1e-13)


@OPS
@settings(max_examples=30)
@given(case=attention_cases())
def test_fused_equals_three_steps(ops, case):
    wanted = in_three_steps(DEFINITION, *case)
    np.testing.assert_allclose(in_three_steps(ops, *case), wanted, atol=1e-13)
    np.testing.assert_allclose(ops.attend(*case), wanted, atol=1e-13)


@pytest.mark.parametrize("T", [1, 2, 7, 8, 9, 12, 13])
@pytest.mark.parametrize("S", [13, 15, 16, 17, 31, 32, 33])
@pytest.mark.parametrize("G", [1, 3, 4])
@pytest.mark.parametrize("window", [None, 6])
def test_sizes_around_tiles_of_4_queries_and_blocks_of_16_keys(T, S, G, window, monkeypatch):
    monkeypatch.setattr(fused, "TILE_QUERIES", 4)
    monkeypatch.setattr(fused, "TILE_KEYS", 16)
    q, k, v = random_qkv(T * S, 1, T, S, 2 * G, 2, 6)
    visible = visible_ranges(np.full((1, T), 3), S - T, window)
    np.testing.assert_allclose(attend_jit(q, k, v, visible, 0.4), attend(q, k, v, visible, 0.4), atol=1e-13)


@ATTEND
@given(seed=seeds, window=st.one_of(st.none(), st.integers(1, 9)))
def test_one_query_a_key_head_is_multi_head_attention(fused, seed, window):
    q, k, v = random_qkv(seed, 1, 6, 6, 3, 3, 4)
    visible = causal(1, 6, window)
    wanted = naive.multi_head_attention(q[0], k[0], v[0], as_matrix(visible, 6)[0], 0.5)
    np.testing.assert_allclose(fused(q, k, v, visible, 0.5)[0], wanted, atol=1e-14)


@ATTEND
def test_heads_of_a_group_share_keys_in_order_not_in_turns(fused):
    q, k, v = random_qkv(3, 1, 5, 5, 6, 2, 4)
    visible = causal(1, 5)
    result = fused(q, k, v, visible, 0.5)
    repeated = fused(q, *(np.repeat(x, 3, axis=2) for x in (k, v)), visible, 0.5)
    tiled = fused(q, *(np.tile(x, (1, 1, 3, 1)) for x in (k, v)), visible, 0.5)
    np.testing.assert_allclose(result, repeated, atol=1e-14)
    assert np.abs(result - tiled).max() > 0.1


@ATTEND
@given(seed=seeds, slots=st.integers(1, 70), data=st.data())
def test_a_ring_is_read_in_the_order_of_its_keys(fused, seed, slots, data):
    newest = data.draw(st.integers(slots, 3 * slots))  # one past the newest key; the ring is full
    start = data.draw(st.integers(newest - slots, newest))
    q, k, v = random_qkv(seed, 2, 1, newest, 4, 2, 4)
    visible = np.array([[[start, newest]], [[newest - 1, newest]]])
    ring = np.empty((2, 2, slots, 2, 4))
    for key in range(newest):  # key j in slot j mod S, later keys over earlier ones
        ring[0][:, key % slots], ring[1][:, key % slots] = k[:, key], v[:, key]
    wanted = attend(q, k, v, visible, 0.5)
    np.testing.assert_allclose(fused(q, ring[0], ring[1], visible, 0.5), wanted, atol=1e-14)


@ATTEND
@given(seed=seeds, origin=st.integers(0, 100))
def test_origin_is_the_key_index_of_slot_zero(fused, seed, origin):
    q, k, v = random_qkv(seed, 1, 4, 9, 4, 2, 4)
    visible = visible_ranges(np.zeros((1, 4), np.int64), 5, 3)
    moved = fused(q, k, v, visible + origin, 0.5, origin)
    np.testing.assert_allclose(moved, attend(q, k, v, visible, 0.5), atol=1e-14)


def test_slots_of_a_ring_that_is_not_full_yet_hold_no_key_from_the_future():
    assert slot_keys(4, 0, 6).tolist() == [4, 5, 2, 3]
    assert slot_keys(4, 0, 2).tolist() == [0, 1, -2, -1]
    assert slot_keys(3, 7, 10).tolist() == [7, 8, 9]


@ATTEND
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_query_that_sees_nothing_gives_zeros(fused, dtype):
    q, k, v = random_qkv(0, 2, 11, 11, 4, 2, 4, dtype)
    result = fused(q, k, v, causal(2, 11, pads=4), 0.5)
    assert result.dtype == dtype
    assert not result[:, :4].any()
    assert np.abs(result[:, 4:]).min(axis=(0, 2, 3)).all()
    assert not fused(q, k, v, causal(2, 11, pads=11), 0.5).any()


@ATTEND
def test_what_is_not_visible_does_not_matter(fused):
    q, k, v = random_qkv(1, 1, 12, 12, 4, 2, 4)
    visible = causal(1, 12, window=3, pads=5)
    result = fused(q, k, v, visible, 0.5)
    k[:, :5], v[:, :5] = 1e300, -1e300
    np.testing.assert_array_equal(fused(q, k, v, visible, 0.5), result)


@ATTEND
def test_one_key_is_copied(fused):
    q, k, v = random_qkv(2, 2, 1, 1, 4, 2, 4)
    np.testing.assert_allclose(fused(q, k, v, causal(2, 1), 0.5), np.repeat(v, 2, axis=2), rtol=1e-15)


@ATTEND
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_scores_do_not_overflow(fused, size):
    q, k, v = random_qkv(4, 1, 70, 70, 2, 1, 4, np.float32)
    result = fused(q, (k * np.float32(size)), v, causal(1, 70), 1.0)
    assert np.isfinite(result).all()
    assert np.abs(result).max() <= np.abs(v).max()


@ATTEND
def test_equal_keys_give_the_mean_of_the_values(fused):
    q, k, v = random_qkv(5, 1, 100, 100, 2, 1, 4)
    k[:] = k[:, :1]
    wanted = np.cumsum(v, axis=1) / np.arange(1, 101)[:, None, None]
    np.testing.assert_allclose(fused(q, k, v, causal(1, 100), 0.5), np.repeat(wanted, 2, axis=2), atol=1e-14)


@SOFTMAX
@given(seed=seeds, keys=st.integers(1, 40), size=st.sampled_from([1.0, 1e3, 1e300]))
def test_softmax_against_the_oracle(normalise, seed, keys, size):
    random = np.random.default_rng(seed)
    row, start, stop = random.standard_normal(keys) * size, *sorted(random.integers(0, keys + 1, 2))
    result = normalise(row[None, None, None], np.array([[[start, stop]]]))[0, 0, 0]
    seen = [start <= key < stop for key in range(keys)]
    np.testing.assert_allclose(result, naive.softmax(row.tolist(), seen), rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(result.sum(), 1.0 if stop > start else 0.0, rtol=1e-14)


@SOFTMAX
def test_softmax_takes_a_boolean_matrix_too(normalise):
    scores = np.random.default_rng(6).standard_normal((2, 4, 7, 7))
    visible = causal(2, 7, window=3, pads=2)
    np.testing.assert_array_equal(normalise(scores, visible), normalise(scores, as_matrix(visible, 7)))


@SOFTMAX
def test_softmax_ignores_a_shift_of_all_scores(normalise):
    scores = np.random.default_rng(7).integers(-8, 8, (1, 2, 5, 5)).astype(np.float32)
    visible = causal(1, 5)
    np.testing.assert_array_equal(normalise(scores + 4096, visible), normalise(scores, visible))


@OPS
def test_scores_are_scaled_and_not_masked(ops):
    q, k, _ = random_qkv(8, 1, 3, 5, 4, 2, 6)
    wanted = [[[0.3 * sum(q[0, t, n] * k[0, s, n // 2]) for s in range(5)] for t in range(3)] for n in range(4)]
    np.testing.assert_allclose(ops.scores(q, k, 0.3)[0], wanted, atol=1e-14)
