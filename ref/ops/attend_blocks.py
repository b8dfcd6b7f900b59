"""The kernel of `attend` for many queries: blocks of queries go through tiles of keys with an online softmax.

A block holds as many of a group's rows t * G + g as a vector has numbers, L: a query to each column of its scores
[KEYS, L] and of its sums [W, L], where W is H filled up to fours. So the softmax adds no two numbers of one vector, and
both matrix products go by the same step: a number of k or v times a vector of the block. Neither the queries computed
beside a query nor the number of threads change any of its bits.
"""

from typing import NamedTuple

import numpy as np
from numba import get_num_threads

from ref.ops.jit import kernel
from ref.ops.product import four_rows
from ref.ops.simd import BYTES, aligned_like, exp, fma, larger, like, load, store
from ref.ops.team import Divided

KEYS = 128  # of a tile, which begins at a multiple of it: a block's scores stay in the nearest cache
TOGETHER = 8  # blocks that share the copy of a tile, where there are many


class _Given(NamedTuple):
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    visible: np.ndarray
    scale: float
    origin: int


class _Blocks(NamedTuple):
    queries: np.ndarray  # [blocks, W * L]
    start: np.ndarray  # [blocks, L] int64, what each query sees
    stop: np.ndarray  # [blocks, L] int64
    largest: np.ndarray  # [blocks, L], score so far
    total: np.ndarray  # [blocks, L] float64, of the weights so far
    sums: np.ndarray  # [blocks, W * L], of weights times values so far


class _Tile(NamedTuple):
    k: np.ndarray  # [KEYS * W]
    v: np.ndarray  # [KEYS * W]
    scores: np.ndarray  # [KEYS * L], of one block; then its weights
    few: np.ndarray  # [2 * L]


@kernel
def _score(queries, keys, begin, end, scale, scores):
    L = BYTES // scores.itemsize
    W, factor = queries.size // L, like(load(queries, 0), scale)
    for j in range(begin, end, 4):
        y0, y1, y2, y3 = four_rows(keys, j * W, W, 1, queries, W)
        store(scores, j * L, y0 * factor)
        store(scores, (j + 1) * L, y1 * factor)
        store(scores, (j + 2) * L, y2 * factor)
        store(scores, (j + 3) * L, y3 * factor)


@kernel
def _hide(scores, first, begin, end, start, stop):
    for j in range(begin, end):
        row = scores[j * start.size : (j + 1) * start.size]
        for i in range(row.size):
            visible = (start[i] <= first + j) & (first + j < stop[i])
            row[i] = row[i] if visible else -np.inf


@kernel
def _exponentiate(scores, begin, end, largest, total, few):
    # online softmax: scores become weights, and few[0] what older weights have to be multiplied by
    L = total.size
    before = after = load(largest, 0)
    for j in range(begin, end):
        after = larger(load(scores, j * L), after)
    store(largest, 0, after)
    store(few, 0, exp(before - after))
    for i in range(L):
        total[i] *= np.float64(few[i])
    for j in range(begin, end, 8):  # sums of eight weights in their own dtype, the rest in float64
        eight = like(after, 0.0)
        for key in range(j, j + 8):
            weight = exp(load(scores, key * L) - after)
            eight = eight + weight
            store(scores, key * L, weight)
        store(few, L, eight)
        for i in range(L):
            total[i] += np.float64(few[L + i])


@kernel
def _mix(weights, values, begin, end, shrink, sums):
    L = BYTES // sums.itemsize
    W, older = sums.size // L, load(shrink, 0)
    for h in range(0, W, 4):
        y0, y1, y2, y3 = four_rows(values, begin * W + h, 1, W, weights, end - begin)
        store(sums, h * L, fma(load(sums, h * L), older, y0))
        store(sums, (h + 1) * L, fma(load(sums, (h + 1) * L), older, y1))
        store(sums, (h + 2) * L, fma(load(sums, (h + 2) * L), older, y2))
        store(sums, (h + 3) * L, fma(load(sums, (h + 3) * L), older, y3))


@kernel
def _copy_keys(k, kv, slot, begin, end, out):
    # keys begin .. end of a tile, the first from `slot`, on around the ring; zeros in front and behind
    W = out.size // KEYS
    out[: begin * W], out[end * W :] = 0, 0
    for j in range(begin, end):
        key, row = k[slot, kv], out[j * W : (j + 1) * W]
        for h in range(key.size):
            row[h] = key[h]
        slot = slot + 1 if slot + 1 < k.shape[0] else 0


@kernel
def _gather(given, b, kv, row, some):
    # rows from `row` on, as many as the blocks have columns; those past the last repeat it
    T, G, L = given.q.shape[1], given.q.shape[2] // given.k.shape[2], some.total.shape[1]
    some.largest[:] = np.finfo(some.largest.dtype).min  # not -infinity, whose difference from itself is no number
    some.total[:], some.sums[:], some.queries[:] = 0, 0, 0
    for i in range(some.total.size):
        t, g = divmod(min(row + i, T * G - 1), G)
        some.start[i // L, i % L], some.stop[i // L, i % L] = given.visible[b, t, 0], given.visible[b, t, 1]
        for h in range(given.q.shape[3]):
            some.queries[i // L, h * L + i % L] = given.q[b, t, kv * G + g, h]


@kernel
def _scatter(some, b, kv, row, G, out):
    L = some.total.shape[1]
    for i in range(min(some.total.size, out.shape[1] * G - row)):
        t, g = divmod(row + i, G)
        total = some.total[i // L, i % L]
        for h in range(out.shape[3]):
            out[b, t, kv * G + g, h] = some.sums[i // L, h * L + i % L] / total if total != 0 else 0.0


@kernel
def _ends(start, stop):
    # the first key that a query of the block sees, one past the last that one sees; the last start, the first stop
    low, high, last_start, first_stop = stop.max(), 0, start.max(), stop.min()
    for i in range(start.size):
        if start[i] < stop[i]:
            low, high = min(low, start[i]), max(high, stop[i])
    return low, high, last_start, first_stop


@kernel
def _visit(some, block, tile, first, scale):
    # one block and one tile; of its keys, those that some query of the block sees, in eights
    start, stop, L = some.start[block], some.stop[block], some.total.shape[1]
    low, high, last_start, first_stop = _ends(start, stop)
    begin, end = max(low - first, 0) // 8 * 8, min((high - first + 7) // 8 * 8, KEYS)
    if begin < end:
        _score(some.queries[block], tile.k, begin, end, scale, tile.scores)
        if first + begin < last_start or first + end > first_stop:
            _hide(tile.scores, first, begin, end, start, stop)
        _exponentiate(tile.scores, begin, end, some.largest[block], some.total[block], tile.few)
        _mix(tile.scores[begin * L :], tile.v, begin, end, tile.few, some.sums[block])


@kernel
def _attend_some(given, some, tile, b, kv, row, out):
    k, v = given.k[b], given.v[b]
    tile.k[:], tile.v[:] = 0, 0  # where W is more than H
    _gather(given, b, kv, row, some)
    low, high, _, _ = _ends(some.start.reshape(-1), some.stop.reshape(-1))
    for first in range(low // KEYS * KEYS, high, KEYS):
        begin, end = max(low - first, 0), min(high - first, KEYS)
        slot = (first + begin - given.origin) % k.shape[0]
        _copy_keys(k, kv, slot, begin, end, tile.k)
        _copy_keys(v, kv, slot, begin, end, tile.v)
        for block in range(some.total.shape[0]):
            _visit(some, block, tile, first, given.scale)
    _scatter(some, b, kv, row, given.q.shape[2] // k.shape[1], out)


@Divided
@kernel
def _attend_pieces(start, stop, q, k, v, visible, scale, origin, blocks, out):
    # the last rows of all heads first: they see most and take longest. Arrays come one by one: Numba looks
    # through a named tuple in Python, at each call
    given = _Given(q, k, v, visible, scale, origin)
    (B, T, N, H), K, L = given.q.shape, given.k.shape[2], BYTES // given.q.itemsize
    W, rows = (H + 3) // 4 * 4, T * N // K
    ranges, total = np.empty((2, blocks, L), np.int64), np.empty((blocks, L))
    queries = aligned_like(given.q, blocks * W * L).reshape(blocks, W * L)
    sums = aligned_like(given.q, blocks * W * L).reshape(blocks, W * L)
    largest = aligned_like(given.q, blocks * L).reshape(blocks, L)
    some = _Blocks(queries, ranges[0], ranges[1], largest, total, sums)
    keys, values = aligned_like(q, KEYS * W), aligned_like(q, KEYS * W)
    tile = _Tile(keys, values, aligned_like(q, KEYS * L), aligned_like(q, 2 * L))
    for piece in range(start, stop):
        several = (rows + blocks * L - 1) // (blocks * L)
        b, kv = divmod(piece % (B * K), K)
        _attend_some(given, some, tile, b, kv, (several - 1 - piece // (B * K)) * blocks * L, out)


def attend_blocks(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray, scale: float, origin: int, out: np.ndarray
) -> None:
    """Fill `out` as `attend` does: each thread takes the next few blocks, the last of all heads first.

    Args:
        q: [B, T, N, H] float, this and all others contiguous.
        k: [B, S, K, H].
        v: [B, S, K, H].
        visible: [B, T, 2] ranges of key indices; later queries of a causal model see most and take longest.
        scale: `query_scale`, in q.dtype.
        origin: key index of slot 0; a key j lies in slot (j - origin) mod S.
        out: [B, T, N, H] q.dtype, written.

    Rounding: products and sums of products in q.dtype, tile by tile; of weights in eights, and these in float64.
    Source: Milakov & Gimelshein 2018 and Dao 2022 (online softmax).
    """
    (B, T, N, _), K, L = q.shape, k.shape[2], BYTES // q.itemsize
    blocks = min(max(B * T * N // L // (2 * get_num_threads()), 1), TOGETHER)
    pieces = B * K * -(-T * N // K // (blocks * L))
    _attend_pieces(pieces, 1, q, k, v, visible, scale, origin, blocks, out)
