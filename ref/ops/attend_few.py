"""The kernel of `attend` for few queries: a thread takes some keys with all queries that share them.

A step of generation reads all keys and values once, so the memory sets the pace: a key is compared with the G queries
of its group while it is at hand. A piece of work is CHUNK keys; it leaves the sums that its keys give, with the largest
score they are relative to, and the chunks are joined in their order. So neither the number of threads nor the queries
beside a query change any bit.
"""

import numpy as np

from ref.ops.dots import dot
from ref.ops.jit import kernel
from ref.ops.simd import exp, fma, like, load_16, store, zeros_16
from ref.ops.simd_bytes import fetch_64
from ref.ops.team import Divided

CHUNK = 128  # keys of a piece of work


@kernel
def _weigh(q, keys, values, places, scale, weights):
    # scores of a chunk become weights; return the largest score and the sum of weights. The values are asked for
    largest, total = -np.inf, 0.0
    for j in range(places.size):
        for h in range(0, q.size, 64):
            fetch_64(values, places[j] + h)
        weights[j] = dot(keys, places[j], places[j] + q.size, q, 0) * scale
        largest = max(largest, np.float64(weights[j]))
    for j in range(places.size):
        weights[j] = exp(weights[j] - q.dtype.type(largest))
    for j in range(places.size):
        total += np.float64(weights[j])
    return largest, total


@kernel
def _mix(weights, values, places, out):
    # 64 numbers of a head at a time, so that four sums are under way; then what is left of it
    h = 0
    while h + 64 <= out.size:
        y0 = y1 = y2 = y3 = zeros_16(out)
        for j in range(places.size):
            w, at = like(y0, weights[j]), places[j] + h
            y0, y1 = fma(w, load_16(values, at), y0), fma(w, load_16(values, at + 16), y1)
            y2, y3 = fma(w, load_16(values, at + 32), y2), fma(w, load_16(values, at + 48), y3)
        store(out, h, y0)
        store(out, h + 16, y1)
        store(out, h + 32, y2)
        store(out, h + 48, y3)
        h += 64
    for i in range(h, out.size):
        y = out.dtype.type(0)
        for j in range(places.size):
            y += weights[j] * values[places[j] + i]
        out[i] = y


# arrays are handed over one by one: Numba looks through a named tuple in Python, at each call


@Divided
@kernel
def _attend_chunks(start, stop, q, k, v, visible, scale, origin, scratch, weights, largest, total, sums):
    # largest and total [B, T, chunks, N], sums [B, T, chunks, N, H]: of a chunk's weights, relative to its largest
    (S, K, H), (T, chunks, N) = k.shape[1:], total.shape[1:]
    keys, values, G = k.reshape(-1), v.reshape(-1), N // K
    for piece in range(start, stop):
        row, chunk, kv = piece // (chunks * K), piece // K % chunks, piece % K
        b, t = divmod(row, T)
        first = visible[b, t, 0] + chunk * CHUNK
        count = min(max(visible[b, t, 1] - first, 0), CHUNK)
        places = scratch[piece, :count]
        for j in range(count):
            places[j] = ((b * S + (first + j - origin) % S) * K + kv) * H
        for n in range(kv * G, (kv + 1) * G):
            cell = b, t, chunk, n
            largest[cell], total[cell] = _weigh(q[b, t, n], keys, values, places, scale, weights[piece])
            _mix(weights[piece], values, places, sums[cell])


@kernel
def _relative(largest, most):
    return np.exp(largest - most) if largest != most else 1.0  # where both are -infinity, too


@kernel
def _join(largest, total, sums, out):
    # chunks relative to the largest score of all; zeros where no key is seen
    # (loops, since Numba's own sums import SciPy when they are loaded)
    most, seen, whole = -np.inf, 0.0, 0.0
    for chunk in range(total.size):
        seen += total[chunk]
        most = max(most, largest[chunk])
    out[:] = 0
    if seen == 0:
        return
    for chunk in range(total.size):
        whole += total[chunk] * _relative(largest[chunk], most)
    for chunk in range(total.size):
        share = _relative(largest[chunk], most) / whole
        for h in range(out.size):
            out[h] += sums[chunk, h] * share


@kernel
def _join_all(largest, total, sums, out):
    B, T, N, _ = out.shape
    for b in range(B):
        for t in range(T):
            for n in range(N):
                _join(largest[b, t, :, n], total[b, t, :, n], sums[b, t, :, n], out[b, t, n])


def attend_few(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray, scale: float, origin: int, out: np.ndarray
) -> None:
    """Fill `out` as `attend` does.

    Args: as `ref.ops.attend_blocks.attend_blocks`.

    Rounding: scores, weights and sums of a chunk in q.dtype, weights relative to its largest score; sums of weights and
        the joining of chunks in float64, a rounding for each chunk.
    Source: Milakov & Gimelshein 2018 (online softmax), over chunks of keys.
    """
    (B, T, N, H), K = q.shape, k.shape[2]
    chunks = max(1, -(-int((visible[..., 1] - visible[..., 0]).max(initial=0)) // CHUNK))
    shape = B, T, chunks, N
    largest, total, sums = np.empty(shape), np.empty(shape), np.empty((*shape, H), q.dtype)
    pieces = B * T * chunks * K  # what they need is made here: kernels without arrays of their own load sooner
    scratch, weights = np.empty((pieces, CHUNK), np.int64), np.empty((pieces, CHUNK), q.dtype)
    _attend_chunks(pieces, 1, q, k, v, visible, scale, origin, scratch, weights, largest, total, sums)
    _join_all(largest, total, sums, out)
