"""Grouped-query attention at once: blocks of keys and an online softmax, so that no T x S array ever exists.

Slots, `origin` and rings: see `ops/attention`.
"""

import numpy as np
from numba import njit, prange

from ref.ops.attend_blocks import attend_blocks
from ref.ops.attention import mix, scores, softmax


def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray, scale: float, origin: int = 0
) -> np.ndarray:
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


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(x, y):
    # sums in vector lanes of the input's dtype
    total = x.dtype.type(0)
    for h in range(x.size):
        total += x[h] * y[h]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add2(out, p, x, r, y):
    for h in range(out.size):
        out[h] += p * x[h] + r * y[h]


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _attend_rows(q, k, v, visible, scale, origin, out):
    T, N, G = q.shape[1], q.shape[2], q.shape[2] // k.shape[2]
    for row in prange(q.shape[0] * T * N):
        b, t, n = row // (T * N), row // N % T, row % N
        begin, stop = visible[b, t, 0], visible[b, t, 1]
        _attend_row(q[b, t, n], k, v, b, n // G, begin, stop, origin, scale, out[b, t, n])


FEW = 8  # from so many queries on, blocks of them (`ops/attend_blocks`) are faster than one at a time


def attend_jit(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray, scale: float, origin: int = 0
) -> np.ndarray:
    """Kernel of `attend`: few queries one by one, many in blocks; float64 sums of weights."""
    q, k, v, visible = (np.ascontiguousarray(x) for x in (q, k, v, visible))
    out = np.empty(q.shape, q.dtype)
    run = _attend_rows if q.shape[1] < FEW else attend_blocks
    run(q, k, v, visible, q.dtype.type(scale), origin, out)
    return out
