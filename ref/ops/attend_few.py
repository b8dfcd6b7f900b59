"""The kernel of `attend` for few queries: a thread takes some keys with all queries that share them.

A step of generation reads all keys and values once, so the memory sets the pace: a key is compared with the G queries
of its group while it is at hand. A piece of work is CHUNK keys; it leaves the sums that its keys give, with the largest
score they are relative to, and the chunks are joined in their order. So neither the number of threads nor the queries
beside a query change any bit.
"""

import numpy as np

from ref.ops.jit import kernel
from ref.ops.simd import exp, fma, like, load_16, store, zeros_16
from ref.ops.simd_bytes import fetch_64, total
from ref.ops.team import Divided

CHUNK = 128  # keys of a piece of work


@kernel
def _dot_pair(keys, at, q, pair, size):
    # a key's products with two queries, which begin at the two places of `pair`
    first, second = pair
    y0 = y1 = z0 = z1 = zeros_16(q)
    h = 0
    while h + 32 <= size:
        k0, k1 = load_16(keys, at + h), load_16(keys, at + h + 16)
        y0, y1 = fma(k0, load_16(q, first + h), y0), fma(k1, load_16(q, first + h + 16), y1)
        z0, z1 = fma(k0, load_16(q, second + h), z0), fma(k1, load_16(q, second + h + 16), z1)
        h += 32
    y = z = q.dtype.type(0)  # of what is left, by itself as in `dot`
    while h < size:
        y += keys[at + h] * q[first + h]
        z += keys[at + h] * q[second + h]
        h += 1
    return total(y0 + y1) + y, total(z0 + z1) + z


@kernel
def _weigh(weights):
    # scores of a chunk become weights; return the largest score and the sum of weights
    largest, whole, j = -np.inf, 0.0, 0
    for i in range(weights.size):
        largest = np.float64(weights[i]) if weights[i] > largest else largest
    most = weights.dtype.type(largest)
    while j + 16 <= weights.size:
        store(weights, j, exp(load_16(weights, j) - like(load_16(weights, j), most)))
        j += 16
    for i in range(j, weights.size):
        weights[i] = exp(weights[i] - most)
    for i in range(weights.size):
        whole += np.float64(weights[i])
    return largest, whole


@kernel
def _mix_pair(first, second, values, places, out, other):
    # values weighed for two queries, 64 numbers of a head at a time: eight sums are under way; then what is left of it
    h = 0
    while h + 64 <= out.size:
        y0 = y1 = y2 = y3 = z0 = z1 = z2 = z3 = zeros_16(out)
        for j in range(places.size):
            at = places[j] + h
            v0, v1, v2, v3 = (
                load_16(values, at),
                load_16(values, at + 16),
                load_16(values, at + 32),
                load_16(values, at + 48),
            )
            w = like(v0, first[j])
            y0, y1, y2, y3 = fma(w, v0, y0), fma(w, v1, y1), fma(w, v2, y2), fma(w, v3, y3)
            w = like(v0, second[j])
            z0, z1, z2, z3 = fma(w, v0, z0), fma(w, v1, z1), fma(w, v2, z2), fma(w, v3, z3)
        store(out, h, y0)
        store(out, h + 16, y1)
        store(out, h + 32, y2)
        store(out, h + 48, y3)
        store(other, h, z0)
        store(other, h + 16, z1)
        store(other, h + 32, z2)
        store(other, h + 48, z3)
        h += 64
    for i in range(h, out.size):
        y = z = out.dtype.type(0)
        for j in range(places.size):
            y += first[j] * values[places[j] + i]
            z += second[j] * values[places[j] + i]
        out[i], other[i] = y, z


# arrays are handed over one by one: Numba looks through a named tuple in Python, at each call


@Divided
@kernel
def _attend_chunks(start, stop, q, k, v, visible, scale, origin, scratch, weights, largest, total, sums):
    # largest and total [B, T, N, chunks], sums [B, T, N, chunks, H]: of a chunk's weights, relative to its largest
    (S, K, H), (T, N, chunks) = k.shape[1:], total.shape[1:]
    queries, keys, values, G = q.reshape(-1), k.reshape(-1), v.reshape(-1), N // K
    for piece in range(start, stop):
        row, chunk, kv = piece // (chunks * K), piece // K % chunks, piece % K
        b, t = row // T, row % T
        first = visible[b, t, 0] + chunk * CHUNK
        left = visible[b, t, 1] - first
        count = 0 if left < 0 else left if left < CHUNK else CHUNK  # Numba's own min and max take longer to compile
        places, weigh, begin = scratch[piece, :count], weights[piece], row * N + kv * G
        for j in range(count):
            places[j] = ((b * S + (first + j - origin) % S) * K + kv) * H
            for h in range(0, H, 64):
                fetch_64(values, places[j] + h)
            for g in range(0, G, 2):
                last = g + 1 if g + 1 < G else g  # of an odd number the last is paired with itself
                pair = (begin + g) * H, (begin + last) * H
                products = _dot_pair(keys, places[j], queries, pair, H)
                weigh[g, j], weigh[last, j] = products[0] * scale, products[1] * scale
        for g in range(G):
            cell = b, t, kv * G + g, chunk
            largest[cell], total[cell] = _weigh(weigh[g, :count])
        for g in range(0, G, 2):
            last, out = g + 1 if g + 1 < G else g, sums[b, t, kv * G :]
            _mix_pair(weigh[g], weigh[last], values, places, out[g, chunk], out[last, chunk])


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
                _join(largest[b, t, n], total[b, t, n], sums[b, t, n], out[b, t, n])


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
    longest = max((stop - start for start, stop in visible.reshape(-1, 2).tolist()), default=0)
    chunks = max(1, -(-longest // CHUNK))
    shape = B, T, N, chunks
    largest, total, sums = np.empty(shape), np.empty(shape), np.empty((*shape, H), q.dtype)
    pieces = B * T * chunks * K  # what they need is made here: kernels without arrays of their own load sooner
    scratch, weights = np.empty((pieces, CHUNK), np.int64), np.empty((pieces, N // K, CHUNK), q.dtype)
    _attend_chunks(pieces, 1, q, k, v, visible, scale, origin, scratch, weights, largest, total, sums)
    _join_all(largest, total, sums, out)
