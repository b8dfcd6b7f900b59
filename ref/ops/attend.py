"""Grouped-query attention at once: blocks of keys and an online softmax, so that no T x S array ever exists.

Slots, `origin` and rings: see `ops/attention`.
"""

import numpy as np
from numba import njit, prange

from ref.ops.attention import mix, scores, softmax


def attend(q, k, v, visible, scale, origin=0):
    """Do scores, softmax and mix in one go.

        attend = mix(softmax(scores(q, k, scale), visible, origin), v)

    Args:
        q: [B, T, N, H] float, rotated, unscaled.
        k: [B, S, K, H] float; slots as in the module's docstring.
        v: [B, S, K, H] float.
        visible: [B, T, 2] integer ranges of key indices.
        scale: `query_scale` of the config.
        origin: key index of slot 0.

    Returns:
        [B, T, N, H] q.dtype; zeros where a query sees nothing.

    Rounding: as its three parts.
    Source: its three parts; the kernel follows Milakov & Gimelshein 2018 and Dao 2022 (online softmax).
    Differs: fused kernels elsewhere keep running sums in float32 and give other last bits.
    """
    return mix(softmax(scores(q, k, scale), visible, origin), v)


KEYS = 64  # keys a block; a block's scores of 32 rows stay in the first-level cache
QUERIES = 8  # queries a task


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _dot4x2(q0, q1, q2, q3, k0, k1, out, column):
    # four queries against two keys: six loads feed eight sums, each in vector lanes of the input's dtype
    a0 = b0 = c0 = d0 = a1 = b1 = c1 = d1 = q0.dtype.type(0)
    for h in range(k0.size):
        x, y = k0[h], k1[h]
        a0 += q0[h] * x
        a1 += q0[h] * y
        b0 += q1[h] * x
        b1 += q1[h] * y
        c0 += q2[h] * x
        c1 += q2[h] * y
        d0 += q3[h] * x
        d1 += q3[h] * y
    out[0, column], out[1, column], out[2, column], out[3, column] = a0, b0, c0, d0
    out[0, column + 1], out[1, column + 1], out[2, column + 1], out[3, column + 1] = a1, b1, c1, d1


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _add4x2(acc0, acc1, p0, p1, v0, v1, v2, v3):
    # four values into two queries: the sums of four are formed in registers before they are stored
    for h in range(acc0.size):
        acc0[h] += p0[0] * v0[h] + p0[1] * v1[h] + p0[2] * v2[h] + p0[3] * v3[h]
        acc1[h] += p1[0] * v0[h] + p1[1] * v1[h] + p1[2] * v2[h] + p1[3] * v3[h]


@njit(cache=True, error_model="numpy")
def _softmax_block(s, width, first, last, scale, acc, state):
    # online softmax of one row: exponentiates its block in place and rescales what was summed before
    first, last = min(max(first, 0), width), min(max(last, 0), width)
    highest = state[0]
    for j in range(first, last):
        s[j] *= scale
        if s[j] > highest:
            highest = np.float64(s[j])
    if highest == -np.inf:  # nothing visible
        s[:] = 0
        return
    s[:first] = 0
    s[last:] = 0
    shrink = np.exp(state[0] - highest)
    total = state[1] * shrink
    for j in range(first, last):
        s[j] = np.exp(np.float64(s[j]) - highest)
        total += np.float64(s[j])
    if shrink != 1.0:
        for h in range(acc.size):
            acc[h] *= shrink
    state[0], state[1] = highest, total


@njit(cache=True, error_model="numpy")
def _attend_block(q, k, v, b, kv, slot, width, seen, scale, s, acc, state):
    # one block of at most KEYS keys against every row of the tile. k and v come whole: only k[b, slot, kv], with
    # every index given, is known to be contiguous, and vectorises. Past the block's end the last key is taken
    # again, with probability 0, so that keys go by fours.
    end = slot + width - 1
    for j in range(0, width, 2):
        k0, k1 = k[b, slot + j, kv], k[b, min(slot + j + 1, end), kv]
        for row in range(0, q.shape[0], 4):
            _dot4x2(q[row], q[row + 1], q[row + 2], q[row + 3], k0, k1, s[row : row + 4], j)
    for row in range(q.shape[0]):
        _softmax_block(s[row], width, seen[row, 0], seen[row, 1], scale, acc[row], state[row])
    for j in range(0, width, 4):
        i = slot + j
        v0, v1, v2, v3 = (
            v[b, i, kv],
            v[b, min(i + 1, end), kv],
            v[b, min(i + 2, end), kv],
            v[b, min(i + 3, end), kv],
        )
        for row in range(0, q.shape[0], 2):
            _add4x2(acc[row], acc[row + 1], s[row, j : j + 4], s[row + 1, j : j + 4], v0, v1, v2, v3)


@njit(cache=True, error_model="numpy")
def _attend_tile(q, k, v, b, kv, visible, scale, origin, out):
    # q, out: [T, G, H] of kv head `kv` and at most QUERIES tokens; rows are (t, g), padded to a multiple of four
    T, G, H = q.shape
    rows = (T * G + 3) // 4 * 4
    tile, acc = np.zeros((rows, H), q.dtype), np.zeros((rows, H), q.dtype)
    s, state = np.empty((rows, KEYS), q.dtype), np.empty((rows, 2))
    state[:, 0], state[:, 1] = -np.inf, 0.0
    seen = np.zeros((rows, 2), np.int64)
    begin, stop = visible[0, 0], visible[0, 1]
    for row in range(T * G):
        tile[row], seen[row] = q[row // G, row % G], visible[row // G]
        if seen[row, 0] < seen[row, 1]:
            begin, stop = min(begin, seen[row, 0]), max(stop, seen[row, 1])
    while begin < stop:
        slot = (begin - origin) % k.shape[1]
        width = min(KEYS, stop - begin, k.shape[1] - slot)  # never across the end of the ring
        _attend_block(tile, k, v, b, kv, slot, width, seen - begin, scale, s, acc, state)
        begin += width
    for row in range(T * G):
        total = state[row, 1]
        for h in range(H):
            out[row // G, row % G, h] = acc[row, h] / total if total > 0 else 0


@njit(cache=True, error_model="numpy")
def _attend_task(task, q, k, v, visible, scale, origin, out):
    tiles, K = (q.shape[1] + QUERIES - 1) // QUERIES, k.shape[2]
    b, kv, t = task // (tiles * K), task // tiles % K, task % tiles * QUERIES
    G, end = q.shape[2] // K, min(t + QUERIES, q.shape[1])
    heads = slice(kv * G, kv * G + G)
    seen = visible[b, t:end]
    _attend_tile(q[b, t:end, heads], k, v, b, kv, seen, scale, origin, out[b, t:end, heads])


@njit(cache=True, error_model="numpy")
def _attend_serial(tasks, q, k, v, visible, scale, origin, out):
    for task in range(tasks):
        _attend_task(task, q, k, v, visible, scale, origin, out)


@njit(cache=True, error_model="numpy", parallel=True)
def _attend_parallel(tasks, q, k, v, visible, scale, origin, out):
    for task in prange(tasks):
        _attend_task(task, q, k, v, visible, scale, origin, out)


@njit(cache=True, error_model="numpy", parallel=True)
def _softmax_rows(s, seen, scale, acc, state):
    for row in prange(s.shape[0]):
        _softmax_block(s[row], s.shape[1], seen[row, 0], seen[row, 1], scale, acc[row], state[row])


TILE_QUERIES, TILE_KEYS = 128, 512  # a tile's scores stay in the cache between the two matrix products


def _attend_tiles(q, k, v, visible, scale, out):
    """Prefill: the same online softmax on tiles large enough for BLAS to do the products. Slots are in order here."""
    T, N, H = q.shape
    K, G = k.shape[1], N // k.shape[1]
    for kv in range(K):
        keys, values = k[:, kv], v[:, kv]
        for t in range(0, T, TILE_QUERIES):
            seen = np.repeat(visible[t : t + TILE_QUERIES], G, axis=0)  # rows are (t, g)
            rows = np.ascontiguousarray(q[t : t + TILE_QUERIES, kv * G : kv * G + G]).reshape(-1, H)
            acc, state = np.zeros_like(rows), np.tile([-np.inf, 0.0], (len(rows), 1))
            some = seen[seen[:, 0] < seen[:, 1]]
            begin, stop = (some[:, 0].min(), some[:, 1].max()) if len(some) else (0, 0)
            for block in range(begin, stop, TILE_KEYS):
                end = min(block + TILE_KEYS, stop)
                s = rows @ keys[block:end].T
                _softmax_rows(s, seen - block, scale, acc, state)
                acc += s @ values[block:end]
            total = state[:, 1:].astype(q.dtype)
            acc = np.divide(acc, total, out=acc, where=total > 0)
            out[t : t + TILE_QUERIES, kv * G : kv * G + G] = acc.reshape(-1, G, H)


def attend_jit(q, k, v, visible, scale, origin=0):
    """Kernel of `attend`: blocks of keys, online softmax with float64 sums, no key far outside the range touched."""
    out = np.empty_like(q)
    scale = q.dtype.type(scale)
    in_order = visible[..., 1].max() - origin <= k.shape[1]  # no ring that has wrapped
    if q.shape[1] >= TILE_QUERIES and in_order:
        for b in range(q.shape[0]):
            _attend_tiles(q[b], k[b], v[b], visible[b] - origin, scale, out[b])
        return out
    tasks = q.shape[0] * k.shape[2] * -(-q.shape[1] // QUERIES)
    drive = _attend_serial if tasks == 1 else _attend_parallel
    drive(tasks, np.ascontiguousarray(q), k, v, visible, scale, origin, out)
    return out
