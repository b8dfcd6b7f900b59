"""Grouped-query attention: a scalar oracle, fused against its three parts, empty rows, rings, blocks, threads."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from support import naive
from support.strategies import attention_cases, seeds
from support.threads import threads

from ref.ops import DEFINITION, KERNEL, attend_blocks
from ref.ops.attend import FEW, attend, attend_jit
from ref.ops.attend_blocks import KEYS
from ref.ops.attention import slot_keys, softmax, softmax_jit
from ref.ops.visibility import as_matrix, visible_ranges

THREADS = 1 if config.DISABLE_JIT else config.NUMBA_NUM_THREADS

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


# L queries a block, KEYS keys a tile; T * G rows of queries
@pytest.mark.parametrize("T", [1, FEW - 1, FEW, 21, 22, 32, 33, 64, 65])
@pytest.mark.parametrize("S", [KEYS - 1, KEYS, KEYS + 1, 2 * KEYS + 7])
@pytest.mark.parametrize("G", [1, 3])
@pytest.mark.parametrize("window", [None, 6, KEYS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sizes_around_blocks_of_queries_and_tiles_of_keys(T, S, G, window, dtype):
    q, k, v = random_qkv(T * S, 1, T, S, 2 * G, 2, 6, dtype)
    visible = visible_ranges(np.full((1, T), 3), S - T, window)
    wanted = attend(*(x.astype(np.float64) for x in (q, k, v)), visible, 0.4)
    np.testing.assert_allclose(attend_jit(q, k, v, visible, 0.4), wanted, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("together", [1, 2, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neither_threads_nor_blocks_nor_the_other_queries_change_a_bit(together, dtype, monkeypatch):
    q, k, v = random_qkv(10, 2, 300, 300, 6, 2, 10, dtype)
    visible = causal(2, 300, window=150, pads=3)
    whole = attend_jit(q, k, v, visible, 0.4)
    monkeypatch.setattr(attend_blocks, "TOGETHER", together)
    for count in (1, 2) if THREADS > 1 else (1,):
        with threads(count):
            np.testing.assert_array_equal(attend_jit(q, k, v, visible, 0.4), whole)
    for b, some in ((0, np.s_[5:70]), (1, np.s_[100:300]), (1, np.s_[292:300])):
        part = attend_jit(q[b : b + 1, some], k[b : b + 1], v[b : b + 1], visible[b : b + 1, some], 0.4)
        np.testing.assert_array_equal(part[0], whole[b, some])


def test_float32_is_as_close_to_float64_as_the_definition():
    q, k, v = random_qkv(11, 1, 64, 4096, 2, 1, 72, np.float32)
    visible = np.broadcast_to([0, 4096], (1, 64, 2))
    truth = attend(*(x.astype(np.float64) for x in (q, k, v)), visible, 72**-0.5)
    ours, plain = (np.abs(f(q, k, v, visible, 72**-0.5) - truth) for f in (attend_jit, attend))
    assert (ours**2).mean() <= 1.5 * (plain**2).mean()
    assert ours.max() <= 2 * plain.max()


@pytest.mark.skipif(config.DISABLE_JIT, reason="half a minute as plain Python")
def test_memory_does_not_grow_with_queries_times_keys():
    q, k, v = random_qkv(12, 1, 2048, 2048, 2, 1, 8, np.float32)
    visible = causal(1, 2048)
    attend_jit(q[:, :64], k, v, visible[:, :64], 0.4)  # compiles
    tracemalloc.start()
    attend_jit(q, k, v, visible, 0.4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * q.nbytes + 2**21 < q.shape[1] * k.shape[1]  # a byte a score would already be too much


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
@given(seed=seeds, slots=st.integers(1, 300), T=st.sampled_from([1, FEW - 1, FEW, 40]), data=st.data())
def test_a_ring_is_read_in_the_order_of_its_keys(fused, seed, slots, T, data):
    newest = data.draw(st.integers(slots, 3 * slots))  # one past the newest key; the ring is full
    q, k, v = random_qkv(seed, 2, T, newest, 4, 2, 4)
    ends = np.random.default_rng(seed).integers(newest - slots, newest + 1, (2, T, 2))
    visible = np.sort(ends, axis=-1)
    visible[0, 0, 1] = newest  # what tells the definition which keys are in the ring
    ring = np.empty((2, 2, slots, 2, 4))
    for key in range(newest):  # key j in slot j mod S, later keys over earlier ones
        ring[0][:, key % slots], ring[1][:, key % slots] = k[:, key], v[:, key]
    wanted = attend(q, k, v, visible, 0.5)
    np.testing.assert_allclose(fused(q, ring[0], ring[1], visible, 0.5), wanted, atol=1e-13)


@ATTEND
@given(seed=seeds, origin=st.integers(0, 300), T=st.sampled_from([4, FEW]))
def test_origin_is_the_key_index_of_slot_zero(fused, seed, origin, T):
    q, k, v = random_qkv(seed, 1, T, T + 5, 4, 2, 4)
    visible = visible_ranges(np.zeros((1, T), np.int64), 5, 3)
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


@pytest.mark.parametrize("T", [FEW - 1, FEW])
def test_a_query_that_is_no_number_spoils_no_other(T):
    q, k, v = random_qkv(13, 1, T, T, 2, 1, 4, np.float32)
    result = attend_jit(q, k, v, causal(1, T), 0.5)
    q[0, 2, 1] = np.nan
    spoilt = attend_jit(q, k, v, causal(1, T), 0.5)
    assert np.isnan(spoilt[0, 2, 1]).all()
    spoilt[0, 2, 1] = result[0, 2, 1]
    np.testing.assert_array_equal(spoilt, result)


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
