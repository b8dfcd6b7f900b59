"""Cached decoding equals the full forward: any chunks, left pads, long after the ring of 5 has wrapped."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.strategies import chunkings, seeds
from support.tiny import BOTH, TINY, assert_close, logits, params, random_ids

from ref.errors import BadInput
from ref.model.cache import chronological, copy_cache, empty_cache
from ref.model.taps import SILENCE, Recorder
from ref.model.text import How, forward
from ref.ops import KERNEL

OPS = pytest.mark.parametrize("ops", BOTH.values(), ids=BOTH)
TAPPED = pytest.mark.parametrize("pattern", [None, "*.attn.probs"], ids=["untapped", "tapped"])
TOTAL = 23


def run(ids, chunks, ops=KERNEL, pads=None, pattern=None, context=64, cache=None):
    """Run the chunks one after another; return the logits of all, and the cache."""
    cache = cache or empty_cache(TINY, np.zeros(len(ids)) if pads is None else pads, context, np.float64)
    parts, start = [], cache.written
    for length in chunks:
        how = How(ops=ops, dtype=np.float64, taps=Recorder(pattern) if pattern else SILENCE)
        stop = start + length
        part, cache = forward(params(), ids[:, start:stop], how, cache)
        parts.append(part)
        start = stop
    return np.concatenate(parts, axis=1), cache


@OPS
@TAPPED
@settings(max_examples=12)
@given(seed=seeds, chunks=chunkings(TOTAL), pads=st.integers(0, 8))
@example(seed=0, chunks=(1,) * TOTAL, pads=7)
@example(seed=0, chunks=(5, 5, 5, 5, 3), pads=0)  # each pass as long as the ring
@example(seed=0, chunks=(4, 1, 6, 1, 11), pads=6)  # the first pass is padding only in one row
def test_chunks_equal_the_full_forward(ops, pattern, seed, chunks, pads):
    ids, pads = random_ids(seed, 2, TOTAL), np.array([0, pads])
    full = logits(ids, ops, first=pads)
    result, _ = run(ids, chunks, ops, pads, pattern)
    for b in range(2):
        assert_close(result[b, pads[b] :], full[b, pads[b] :])


@OPS
@TAPPED
@pytest.mark.parametrize("pads", [0, 3])
def test_single_steps_long_after_the_ring_has_wrapped(ops, pattern, pads):
    ids = random_ids(1, 1, 60)
    result, _ = run(ids, (7, *(1,) * 53), ops, [pads], pattern)
    assert_close(result[:, pads:], logits(ids, ops, first=np.array([pads]))[:, pads:])


@settings(max_examples=10)
@given(chunks=chunkings(TOTAL), pads=st.integers(0, 8))
def test_taps_show_the_keys_in_order_whatever_the_chunks(chunks, pads):
    ids = random_ids(2, 1, TOTAL)
    full = Recorder("*.attn.k_rope", "*.attn.probs")
    logits(ids, taps=full, first=np.array([pads]))
    _, before = run(ids, chunks[:-1], pads=[pads]) if chunks[1:] else (None, None)
    last = Recorder("*.cache.*", "*.attn.probs")
    cache = before or empty_cache(TINY, [pads], 64, np.float64)
    forward(params(), ids[:, cache.written :], How(dtype=np.float64, taps=last), cache)
    for layer in range(TINY.layers):
        name = f"text.layer.{layer}."
        keys = TINY.window_of(layer) or TOTAL
        positions = np.maximum(np.arange(TOTAL) - pads, -1)
        np.testing.assert_array_equal(last.values[name + "cache.positions"], positions[None, -keys:])
        real = np.arange(TOTAL)[-keys:] >= pads
        wanted = full.values[name + "attn.k_rope"][:, -keys:]
        assert_close(last.values[name + "cache.k"][:, real], wanted[:, real])
        probs = last.values[name + "attn.probs"][..., -1, :]  # the last keys only, oldest first
        assert_close(probs, full.values[name + "attn.probs"][..., -1, -probs.shape[-1] :])


@OPS
def test_a_consumed_value_is_refused(ops):
    ids = random_ids(3, 1, 8)
    _, cache = run(ids, (4,), ops)
    after = run(ids, (2,), ops, cache=cache)[1]
    with pytest.raises(BadInput, match="consumed"):
        run(ids, (2,), ops, cache=cache)
    result, _ = run(ids, (2,), ops, cache=after)  # the refusal spoiled nothing
    assert_close(result, logits(ids, ops)[:, 6:])


def test_a_copy_can_be_continued_beside_the_original():
    ids, other = random_ids(4, 1, 20), random_ids(5, 1, 20)
    other[:, :9] = ids[:, :9]
    _, cache = run(ids, (9,))
    fork = copy_cache(cache)
    one, _ = run(ids, (1,) * 11, cache=cache)
    two, _ = run(other, (3, 8), cache=fork)
    assert_close(one, logits(ids)[:, 9:])
    assert_close(two, logits(other)[:, 9:])


def test_the_context_may_be_filled_and_not_exceeded():
    ids = random_ids(6, 1, 13)
    result, cache = run(ids, (6, 6), context=12)
    assert_close(result, logits(ids[:, :12]))
    with pytest.raises(BadInput, match="at most its context, 12, got 13"):
        run(ids, (1,), cache=cache)
    with pytest.raises(BadInput, match="at most its context, 3, got 4"):
        run(ids, (4,), context=3)


@pytest.mark.parametrize("context", [3, 5, 6])
def test_a_context_around_the_window(context):
    ids = random_ids(7, 2, context)
    result, cache = run(ids, (1,) * context, context=context)
    assert_close(result, logits(ids))
    assert cache.written == context


def test_local_layers_hold_w_keys_and_global_ones_all():
    _, cache = run(random_ids(8, 2, 9), (9,), pads=[0, 2])
    assert [layer.k.shape[1] for layer in cache.layers] == [5, 5, 5, 5, 5, 64, 5]
    _, _, local = chronological(cache.layers[0])
    _, _, everything = chronological(cache.layers[5])
    assert local.tolist() == [[4, 5, 6, 7, 8], [2, 3, 4, 5, 6]]
    assert everything.tolist() == [list(range(9)), [-1, -1, *range(7)]]
