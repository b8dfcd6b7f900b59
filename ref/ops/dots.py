"""Products of few rows with a weight of floats or bfloat16 bits as it lies in memory: each of its rows is read once.

A step of generation reads all weights for one row of x, so the memory sets the pace. What keeps up with it: 16 numbers
at a time, more than one sum under way, and memory asked for before it is needed.
"""

from typing import Any

import numpy as np

from ref.ops.jit import kernel
from ref.ops.simd import CACHE_LINE, fma, load_16, zeros_16
from ref.ops.simd_bytes import prefetch_64, total, widen_bits
from ref.ops.team import in_pieces

LEAST = 2**14  # numbers of a weight that a thread takes at once at least: a microsecond's work
PIECES = 4  # a thread takes, where there is more: at the start of each it waits for memory


def piece_of(inputs: int) -> int:
    """Return how many rows of a weight a thread takes at once at least."""
    return max(1, LEAST // inputs)


@kernel
def _line_up(x, room):
    begin = -room.ctypes.data % CACHE_LINE // x.itemsize
    for i in range(x.size):
        room[begin + i] = x[i]
    return begin


def lined_up(x: np.ndarray) -> np.ndarray:
    """Return a contiguous copy of x that begins with a cache line: anywhere else each vector lies in two of them."""
    room = np.empty(x.size + CACHE_LINE // x.itemsize, x.dtype)
    begin = _line_up(x.reshape(-1), room)
    return room[begin : begin + x.size].reshape(x.shape)


@kernel
def dot(w: np.ndarray, at: int, end: int, x: np.ndarray, xat: int) -> Any:
    """Return the sum of w[at + i] * x[xat + i], i up to `end - at`; `w` of x's dtype or bfloat16 bits."""
    y0 = y1 = y2 = y3 = zeros_16(x)
    while at + 64 <= end:
        prefetch_64(w, at)
        y0 = fma(widen_bits(load_16(w, at)), load_16(x, xat), y0)
        y1 = fma(widen_bits(load_16(w, at + 16)), load_16(x, xat + 16), y1)
        y2 = fma(widen_bits(load_16(w, at + 32)), load_16(x, xat + 32), y2)
        y3 = fma(widen_bits(load_16(w, at + 48)), load_16(x, xat + 48), y3)
        at, xat = at + 64, xat + 64
    while at + 16 <= end:
        y0, y1 = y1, fma(widen_bits(load_16(w, at)), load_16(x, xat), y0)
        at, xat = at + 16, xat + 16
    y, rest = total((y0 + y1) + (y2 + y3)), x.dtype.type(0)
    while at < end:
        rest += widen_bits(w[at]) * x[xat]
        at, xat = at + 1, xat + 1
    return y + rest


@in_pieces(PIECES)
@kernel
def dot_rows(start: int, stop: int, matrix: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Fill out[t, r] = w[r] @ x[t] for rows start .. stop; w [O, I] and x [T, I]."""
    w, x, inputs = matrix.reshape(-1), rows.reshape(-1), matrix.shape[1]
    for r in range(start, stop):
        for t in range(out.shape[0]):
            out[t, r] = dot(w, r * inputs, (r + 1) * inputs, x, t * inputs)
