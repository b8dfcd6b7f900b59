"""Grouped-query attention at once: blocks of keys and an online softmax, so that no T x S array ever exists.

Slots, `origin` and rings: see `ops/attention`.
"""

from itertools import product

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


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(x, y):
    # sums in vector lanes of the input's dtype
    total = x.dtype.type(0)
    for h in range(x.size):
        total += x[h] * y[h]
    return total


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _add2(out, p, x, r, y):
    for h in range(out.size):
        out[h] += p * x[h] + r * y[h]


@njit(cache=True, error_model="numpy")
def _attend_row(q, k, v, b, kv, begin, stop, origin, scale, out):
    # one query. k and v come whole: only k[b, slot, kv], with every index given, is known to be contiguous
    S, count = k.shape[1], stop - begin
    weights, slots = np.zeros(count + 1, q.dtype), np.zeros(count + 1, np.int64)
    largest = -np.inf
    for j in range(count):
        slots[j] = (begin + j - origin) % S
        weights[j] = _dot(q, k[b, slots[j], kv]) * scale
        largest = max(largest, np.float64(weights[j]))
    total = 0.0
    for j in range(count):
        weights[j] = np.exp(np.float64(weights[j]) - largest)
        total += np.float64(weights[j])
    out[:] = 0
    slots[count] = slots[max(count - 1, 0)]  # keys go by twos; the spare one has weight 0
    for j in range(0, count, 2):
        _add2(out, weights[j], v[b, slots[j], kv], weights[j + 1], v[b, slots[j + 1], kv])
    for h in range(out.size):
        out[h] = out[h] / total if count > 0 else 0


@njit(cache=True, error_model="numpy", parallel=True)
def _attend_rows(q, k, v, visible, scale, origin, out):
    T, N, G = q.shape[1], q.shape[2], q.shape[2] // k.shape[2]
    for row in prange(q.shape[0] * T * N):
        b, t, n = row // (T * N), row // N % T, row % N
        begin, stop = visible[b, t, 0], visible[b, t, 1]
        _attend_row(q[b, t, n], k, v, b, n // G, begin, stop, origin, scale, out[b, t, n])


@njit(cache=True, error_model="numpy", parallel=True)
def _softmax_block(s, seen, scale, acc, state):
    # online softmax, a row at a time: exponentiates its block in place, rescales what was summed before
    for row in prange(s.shape[0]):
        first = min(max(seen[row, 0], 0), s.shape[1])
        last = min(max(seen[row, 1], first), s.shape[1])
        s[row, :first], s[row, last:] = 0, 0
        highest, total = state[row, 0], state[row, 1]
        for j in range(first, last):
            s[row, j] *= scale
            highest = max(highest, np.float64(s[row, j]))
        shrink = np.exp(state[row, 0] - highest) if total > 0 else 0.0
        total *= shrink
        for j in range(first, last):
            s[row, j] = np.exp(np.float64(s[row, j]) - highest)
            total += np.float64(s[row, j])
        for h in range(acc.shape[1]):
            acc[row, h] *= shrink
        state[row, 0], state[row, 1] = highest, total


FEW = 8  # from so many queries on, tiles that BLAS multiplies are faster than one query at a time
TILE_QUERIES, TILE_KEYS = 128, 512  # a tile's scores stay in the cache between the two matrix products


def _attend_tiles(q, k, v, visible, scale, out):
    """Attend with blocks of keys and an online softmax; the slots of k and v are key indices here."""
    (T, N, H), K = q.shape, k.shape[1]
    for kv, t in product(range(K), range(0, T, TILE_QUERIES)):
        part = np.s_[t : t + TILE_QUERIES, kv * (N // K) : (kv + 1) * (N // K)]
        rows = np.ascontiguousarray(q[part]).reshape(-1, H)  # (t, g)
        seen = np.repeat(visible[part[0]], N // K, axis=0)
        acc, state = np.zeros_like(rows), np.tile([-np.inf, 0.0], (len(rows), 1))  # largest score, sum of weights
        some = seen[seen[:, 0] < seen[:, 1]]
        for begin in range(some[:, 0].min(initial=len(k)), some[:, 1].max(initial=0), TILE_KEYS):
            stop = min(begin + TILE_KEYS, some[:, 1].max())
            weights = rows @ k[begin:stop, kv].T
            _softmax_block(weights, seen - begin, scale, acc, state)
            acc += weights @ v[begin:stop, kv]
        total = state[:, 1:].astype(q.dtype)
        out[part] = np.divide(acc, total, out=acc, where=total > 0).reshape(-1, N // K, H)


def attend_jit(q, k, v, visible, scale, origin=0):
    """Kernel of `attend`: many queries in tiles with an online softmax, few one by one; float64 sums of weights."""
    out, scale = np.empty_like(q), q.dtype.type(scale)
    wrapped = visible[..., 1].max() - origin > k.shape[1]
    if q.shape[1] < FEW or wrapped:
        _attend_rows(np.ascontiguousarray(q), k, v, visible, scale, origin, out)
    else:
        for b in range(q.shape[0]):
            _attend_tiles(q[b], k[b], v[b], visible[b] - origin, scale, out[b])
    return out
