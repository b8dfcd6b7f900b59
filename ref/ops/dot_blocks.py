"""Products of one row with block-quantised rows as they are stored: nothing is widened to memory first.

What the bytes of a block mean stands in `ref.ops.block_layouts`, with the definition of each format. Here a block is
multiplied with its part of x, 16 numbers at a time, while memory further on is asked for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ref.ops.dots import PIECES
from ref.ops.jit import kernel
from ref.ops.simd import fma, like, load_16, zeros_16
from ref.ops.simd_bytes import bytes_of, lane, load_word, prefetch, signed, to_float32, total, where_bits
from ref.ops.team import Divided, frozen, in_pieces, specialised

SIX_BITS, FOUR_BITS, UPPER_BITS = np.uint32(0x3F3F3F3F), np.uint32(0x0F0F0F0F), np.uint32(0x30303030)
# what each float16 is as a float32, by its bits: looked up, a scale is in all lanes at once and costs no arithmetic
HALVES = frozen(np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32))


@kernel
def _half(w, at, halves):
    return halves[load_word(w, at) & np.uint32(0xFFFF)]


@kernel
def _add_q8_0(w, at, halves, x, j, y):
    # y + the products of one block of 32 with x[j ..]
    scale = _half(w, at, halves)
    first = to_float32(signed(load_16(w, at + 2))) * load_16(x, j)
    return fma(fma(to_float32(signed(load_16(w, at + 18))), load_16(x, j + 16), first), like(y, scale), y)


@kernel
def _add_q4_0(w, at, halves, x, j, y):
    scale, q = _half(w, at, halves), load_16(w, at + 2)
    first = to_float32(signed((q & 15) - 8)) * load_16(x, j)
    return fma(fma(to_float32(signed((q >> 4) - 8)), load_16(x, j + 16), first), like(y, scale), y)


@kernel
def _add_q5_0(w, at, halves, x, j, y):
    # q + 16 h - 16, h the fifth bit, is the byte q, or where h is not set q | 240 read as signed
    scale, fifth, q = _half(w, at, halves), load_word(w, at + 2), load_16(w, at + 6)
    minus, zero = like(q, 240.0), like(q, 0.0)
    first = to_float32(signed(q & 15 | where_bits(fifth, zero, minus))) * load_16(x, j)
    second = to_float32(signed(q >> 4 | where_bits(fifth >> np.uint32(16), zero, minus)))
    return fma(fma(second, load_16(x, j + 16), first), like(y, scale), y)


_add_32: Any = None  # in the copies of what follows: of one format
_add_256: Any = None
SIZE = 0  # bytes of its block


def _dot_of_32s(w, at, end, halves, x):
    # four blocks at a time in two sums, so that one does not wait for the other
    y0 = y1 = zeros_16(x)
    j = np.intp(0)  # a plain 0 is a type of its own, for which all would be compiled once more
    while at + 4 * SIZE <= end:
        for block in range(4):
            prefetch(w, at + block * SIZE)
        y0, y1 = _add_32(w, at, halves, x, j, y0), _add_32(w, at + SIZE, halves, x, j + 32, y1)
        at, j = at + 2 * SIZE, j + 64
        y0, y1 = _add_32(w, at, halves, x, j, y0), _add_32(w, at + SIZE, halves, x, j + 32, y1)
        at, j = at + 2 * SIZE, j + 64
    while at < end:
        y0 = _add_32(w, at, halves, x, j, y0)
        at, j = at + SIZE, j + 32
    return total(y0 + y1)


@kernel
def _scales_k(w, at):
    # as floats: scales of a block's 8 parts, then their minima
    first, second, low = load_word(w, at), load_word(w, at + 4), load_word(w, at + 8)
    last_scales = low & FOUR_BITS | first >> np.uint32(2) & UPPER_BITS
    last_minima = low >> np.uint32(4) & FOUR_BITS | second >> np.uint32(2) & UPPER_BITS
    return to_float32(bytes_of(first & SIX_BITS, last_scales, second & SIX_BITS, last_minima))


@kernel
def _factors_k(w, at, halves):
    # each part's scale, then each part's offset
    scales = _scales_k(w, at + 4)
    return scales * where_bits(0xFF, like(scales, _half(w, at, halves)), like(scales, -_half(w, at + 2, halves)))


@kernel
def _add(q, factors, part, x, j, y):
    # y + (scale * q + offset) * x[j ..]
    return fma(fma(to_float32(q), lane(factors, part), lane(factors, part + 8)), load_16(x, j), y)


@kernel
def _add_q4_k(w, at, halves, x, j, y0, y1):
    # y0 + y1 + the products of one block of 256 with x[j ..]
    factors = _factors_k(w, at, halves)
    for pair in range(4):
        q, place, part = at + 16 + 32 * pair, j + 64 * pair, 2 * pair
        prefetch(w, q)
        q0, q1 = load_16(w, q), load_16(w, q + 16)
        y0, y1 = _add(q0 & 15, factors, part, x, place, y0), _add(q1 & 15, factors, part, x, place + 16, y1)
        y0 = _add(q0 >> 4, factors, part + 1, x, place + 32, y0)
        y1 = _add(q1 >> 4, factors, part + 1, x, place + 48, y1)
    return y0, y1


@kernel
def _add_q5_k(w, at, halves, x, j, y0, y1):
    factors = _factors_k(w, at, halves)
    fifth0, fifth1 = load_16(w, at + 16), load_16(w, at + 32)
    for part in range(8):
        q, shift, place = at + 48 + part // 2 * 32, part % 2 * 4, j + 32 * part
        prefetch(w, q)
        q0 = load_16(w, q) >> shift & 15 | (fifth0 >> part & 1) << 4
        q1 = load_16(w, q + 16) >> shift & 15 | (fifth1 >> part & 1) << 4
        y0, y1 = _add(q0, factors, part, x, place, y0), _add(q1, factors, part, x, place + 16, y1)
    return y0, y1


@kernel
def _add_q6_k(w, at, halves, x, j, y0, y1):
    integers = to_float32(signed(load_16(w, at + 192)))
    scales = integers * like(integers, halves[load_word(w, at + 206) >> np.uint32(16)])  # nothing behind the block
    for turn in range(8):  # (128 values, 32 of their 64 bytes, 16 of those)
        half, pair, side = turn // 4, turn // 2 % 2, turn % 2
        part, place = 8 * half + 2 * pair + side, j + 128 * half + 32 * pair + 16 * side
        prefetch(w, at + 26 * turn)
        q = load_16(w, at + 64 * half + 32 * pair + 16 * side)
        upper = load_16(w, at + 128 + 32 * half + 16 * side) >> 2 * pair
        first, second = (q & 15 | (upper & 3) << 4) - 32, (q >> 4 | upper & 48) - 32
        y0 = fma(to_float32(signed(first)) * lane(scales, part), load_16(x, place), y0)
        y1 = fma(to_float32(signed(second)) * lane(scales, part + 4), load_16(x, place + 64), y1)
    return y0, y1


def _dot_of_256s(w, at, end, halves, x):
    y0 = y1 = zeros_16(x)
    j = np.intp(0)
    while at < end:
        y0, y1 = _add_256(w, at, halves, x, j, y0, y1)
        at, j = at + SIZE, j + 256
    return total(y0 + y1)


_dot: Any = None  # in the copies below: of one format


def _dots(start, stop, matrix, halves, rows, out):
    w, size = matrix.reshape(-1), matrix.shape[1]
    for r in range(start, stop):
        for t in range(out.shape[0]):
            out[t, r] = _dot(w, r * size, (r + 1) * size, halves, rows[t])


def _dots_of(name: str, template: Callable, size: int, **add: Callable) -> Divided:
    dot = kernel(specialised(template, f"_dot_{name}", SIZE=size, **add))
    return in_pieces(PIECES)(kernel(specialised(_dots, f"dots_{name}", _dot=dot)))


# out[t, r] = decode(matrix)[r] @ rows[t], r = start .. stop; matrix [O, bytes] uint8, HALVES, rows [T, I] float32
DOTS = {
    "Q8_0": _dots_of("q8_0", _dot_of_32s, 34, _add_32=_add_q8_0),
    "Q4_0": _dots_of("q4_0", _dot_of_32s, 18, _add_32=_add_q4_0),
    "Q5_0": _dots_of("q5_0", _dot_of_32s, 22, _add_32=_add_q5_0),
    "Q4_K": _dots_of("q4_k", _dot_of_256s, 144, _add_256=_add_q4_k),
    "Q5_K": _dots_of("q5_k", _dot_of_256s, 176, _add_256=_add_q5_k),
    "Q6_K": _dots_of("q6_k", _dot_of_256s, 210, _add_256=_add_q6_k),
}
