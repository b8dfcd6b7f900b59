"""Block-quantised matrices as GGUF files hold them: what the bytes mean, and products without widening them.

A row is cut into blocks; a block stores one or two float16 scales and a small integer per value. The K
formats cut a block of 256 further into sub-blocks, whose scales are small integers too. All numbers are
little-endian.
"""

from typing import NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from ref.ops.codes import decode_int4, decode_sfp8, row_int4, row_sfp8


class Format(NamedTuple):
    """How one format cuts a row."""

    type_id: int  # the number of the format in ggml; of those that ggml has not, below 0
    length: int  # values a block
    size: int  # bytes a block
    run: int  # values whose bytes lie side by side and share one scale: the inner loop of the kernels


FORMATS = {
    "Q4_0": Format(2, 32, 18, 16),
    "Q5_0": Format(6, 32, 22, 16),
    "Q8_0": Format(8, 32, 34, 32),
    "Q4_K": Format(12, 256, 144, 32),
    "Q5_K": Format(13, 256, 176, 32),
    "Q6_K": Format(14, 256, 210, 16),
    "SFP8": Format(-1, 1, 1, 1),
    "INT4": Format(-2, 2, 1, 2),
}


SMALL = 262_144  # values; less work than this does not pay for starting threads


class Blocks(NamedTuple):
    """A quantised matrix: the bytes of its rows, often a read-only view of a file, and their format."""

    data: np.ndarray  # [rows, bytes a row] uint8
    format: str
    scale: np.ndarray | None = None  # [rows] float32 that decoded values are divided by; SFP8 and INT4 have it

    @property
    def rows(self) -> int:
        """Return the number of rows: outputs of a linear layer, tokens of an embedding."""
        return self.data.shape[0]

    @property
    def columns(self) -> int:
        """Return the number of values a row decodes to."""
        return self.data.shape[1] // FORMATS[self.format].size * FORMATS[self.format].length

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape of the decoded matrix."""
        return self.rows, self.columns

    def take_rows(self, rows) -> "Blocks":
        """Select rows by a slice (no copy) or by an array of indices (copies their bytes)."""
        return Blocks(self.data[rows], self.format, None if self.scale is None else self.scale[rows])


def _half(data):
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def _nibbles(data):  # [..., bytes] -> [..., 2, bytes]: low halves, then high halves
    return np.stack([data & 15, data >> 4], axis=-2)


def _q8_0(block):
    """Bytes: scale d 2, q 32 (signed). Value j: d * q[j]."""
    return _half(block[:, :2]) * block[:, 2:].view(np.int8).astype(np.float32)


def _q4_0(block):
    """Bytes: d 2, q 16. Value j: d * (low half of q[j] - 8); value 16 + j: the high half."""
    q = _nibbles(block[:, 2:]).reshape(-1, 32)
    return _half(block[:, :2]) * (q.astype(np.float32) - 8)


def _q5_0(block):
    """Bytes: d 2, h 4 (bit j: the fifth bit of value j), q 16 as Q4_0. Value: d * (q + 16 h - 16)."""
    fifth = np.unpackbits(block[:, 2:6], axis=1, bitorder="little")
    q = _nibbles(block[:, 6:]).reshape(-1, 32) + 16 * fifth
    return _half(block[:, :2]) * (q.astype(np.float32) - 16)


def _scales_k(packed):
    """8 scales and 8 minima of 6 bits in 12 bytes: 0-3 whole, the upper bits of 4-7 in the bytes of 0-3."""
    first, second, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (low & 15) | (first >> 6 << 4)], axis=1)
    minima = np.concatenate([second & 63, (low >> 4) | (second >> 6 << 4)], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _affine_k(block, q):  # q [blocks, 8, 32]: each sub-block has its own scale and minimum
    scales, minima = _scales_k(block[:, 4:16])
    step, floor = _half(block[:, :2]) * scales, _half(block[:, 2:4]) * minima
    return (step[..., None] * q.astype(np.float32) - floor[..., None]).reshape(-1, 256)


def _q4_k(block):
    """Bytes: d 2, dmin 2, scales s and minima m 12, q 128.

    Sub-block i of 32 values: (d * s[i]) * q - dmin * m[i]; its q: low (i even) or high halves of 32 bytes.
    """
    return _affine_k(block, _nibbles(block[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def _q5_k(block):
    """Bytes: as Q4_K, with h 32 before q: bit i of h[j] is the fifth bit of value j of sub-block i."""
    q = _nibbles(block[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    fifth = np.unpackbits(block[:, None, 16:48], axis=1, bitorder="little")
    return _affine_k(block, q + 16 * fifth)


def _q6_k(block):
    """Bytes: low halves q 128, upper pairs of bits h 64, scales s 16 (signed), d 2.

    Sub-block i of 16 values: (d * s[i]) * (q + 16 h - 32). Each 128 values take 64 bytes of q (32 low, 32
    low, 32 high, 32 high halves) and 32 bytes of h (two bits for each 32 values, the lowest first).
    """
    q = _nibbles(block[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    upper = np.stack([block[:, 128:192].reshape(-1, 2, 32) >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    step = _half(block[:, 208:]) * block[:, 192:208].view(np.int8).astype(np.float32)
    return (step[..., None] * ((q + 16 * upper).reshape(-1, 16, 16).astype(np.float32) - 32)).reshape(-1, 256)


_DEFINITIONS = {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q5_0": _q5_0, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k}
_DEFINITIONS |= {"SFP8": decode_sfp8, "INT4": decode_int4}


def decode(blocks):
    """Widen a quantised matrix to the float32 values its bytes stand for.

        value = scale * q                   Q8_0, Q4_0, Q5_0, Q6_K   (q signed, after its offset)
        value = scale * q - minimum         Q4_K, Q5_K
        value = q / scale                   SFP8, INT4: one scale a row, beside the bytes

    The byte layouts stand at `_q8_0` .. `_q6_k` above and in `ref.ops.codes`.

    Args:
        blocks: quantised matrix, [rows, columns].

    Returns:
        [rows, columns] float32.

    Rounding: every product and the difference round to float32, in the order the layouts write them.
    Source: ggml `dequantize_row_*`; the `gguf` package's `quants.py`, to which this is bit-equal.
    Differs: a compiler that fuses the multiply and subtract of Q4_K and Q5_K differs in the last bits.
    """
    values = _DEFINITIONS[blocks.format](blocks.data.reshape(-1, FORMATS[blocks.format].size))
    return _unscaled(values.reshape(blocks.shape), blocks)


def _unscaled(values, blocks):
    return values if blocks.scale is None else np.divide(values, blocks.scale[:, None], out=values)


@njit(cache=True, nogil=True, error_model="numpy")
def _widen_half(low, high):
    # Numba has no float16. Below 0x400 a half is subnormal, an integer times 2^-24; from 0x7C00 on it is no
    # number. Integer arithmetic, so that a processor set to flush subnormals to zero changes nothing.
    magnitude = np.uint32(np.uint32(low) | np.uint32(high & 0x7F) << np.uint32(8))
    if magnitude < np.uint32(0x400):
        value = np.float32(magnitude) * np.float32(2.0**-24)
    else:
        bias = np.uint32(112 << 23) if magnitude < np.uint32(0x7C00) else np.uint32(224 << 23)
        value = np.uint32((magnitude << np.uint32(13)) + bias).view(np.float32)
    return -value if high & 0x80 else value


# The row kernels fill out[block, part, j]. What makes LLVM vectorise them, each worth a factor of 2 to 4: the
# inner loop runs over out.shape[2], never over a constant (a short constant loop is unrolled before the
# vectoriser sees it); a loop writes both halves of its bytes; upper bits are chosen, not shifted by the
# loop's index.


@njit(cache=True, nogil=True, error_model="numpy")
def _row_q8_0(row, out):
    for b in range(row.shape[0]):
        d = _widen_half(row[b, 0], row[b, 1])
        for j in range(out.shape[2]):
            out[b, 0, j] = d * np.float32(np.int8(row[b, 2 + j]))


@njit(cache=True, nogil=True, error_model="numpy")
def _row_q4_0(row, out):
    for b in range(row.shape[0]):
        d = _widen_half(row[b, 0], row[b, 1])
        for j in range(out.shape[2]):
            q = row[b, 2 + j]
            out[b, 0, j] = d * (np.float32(np.uint8(q & 15)) - np.float32(8))
            out[b, 1, j] = d * (np.float32(np.uint8(q >> 4)) - np.float32(8))


@njit(cache=True, nogil=True, error_model="numpy")
def _row_q5_0(row, out):
    for b in range(row.shape[0]):
        d = _widen_half(row[b, 0], row[b, 1])
        first = np.uint32(row[b, 2]) | np.uint32(row[b, 3]) << np.uint32(8)
        second = np.uint32(row[b, 4]) | np.uint32(row[b, 5]) << np.uint32(8)
        for j in range(out.shape[2]):
            q, bit = row[b, 6 + j], np.uint32(1 << j)
            low_offset = np.float32(0) if np.uint32(first) & bit else np.float32(16)
            high_offset = np.float32(0) if np.uint32(second) & bit else np.float32(16)
            out[b, 0, j] = d * (np.float32(np.uint8(q & 15)) - low_offset)
            out[b, 1, j] = d * (np.float32(np.uint8(q >> 4)) - high_offset)


@njit(cache=True, nogil=True, error_model="numpy")
def _scale_k(row, b, part, d, dmin):
    if part < 4:
        scale, minimum = row[b, 4 + part] & 63, row[b, 8 + part] & 63
    else:
        low = row[b, 8 + part]
        scale = low & 15 | row[b, part] >> 6 << 4
        minimum = low >> 4 | row[b, 4 + part] >> 6 << 4
    return d * np.float32(scale), dmin * np.float32(minimum)


@njit(cache=True, nogil=True, error_model="numpy")
def _row_q4_k(row, out):
    for b in range(row.shape[0]):
        d, dmin = _widen_half(row[b, 0], row[b, 1]), _widen_half(row[b, 2], row[b, 3])
        for pair in range(4):
            low_step, low_floor = _scale_k(row, b, 2 * pair, d, dmin)
            high_step, high_floor = _scale_k(row, b, 2 * pair + 1, d, dmin)
            for j in range(out.shape[2]):
                q = row[b, 16 + 32 * pair + j]
                out[b, 2 * pair, j] = low_step * np.float32(np.uint8(q & 15)) - low_floor
                out[b, 2 * pair + 1, j] = high_step * np.float32(np.uint8(q >> 4)) - high_floor


@njit(cache=True, nogil=True, error_model="numpy")
def _row_q5_k(row, out):
    for b in range(row.shape[0]):
        d, dmin = _widen_half(row[b, 0], row[b, 1]), _widen_half(row[b, 2], row[b, 3])
        for pair in range(4):
            low_step, low_floor = _scale_k(row, b, 2 * pair, d, dmin)
            high_step, high_floor = _scale_k(row, b, 2 * pair + 1, d, dmin)
            low_bit, high_bit = np.uint8(1 << 2 * pair), np.uint8(2 << 2 * pair)
            for j in range(out.shape[2]):
                q, fifths = row[b, 48 + 32 * pair + j], row[b, 16 + j]
                low = np.float32(np.uint8(q & 15)) + (np.float32(16) if fifths & low_bit else np.float32(0))
                high = np.float32(np.uint8(q >> 4)) + (np.float32(16) if fifths & high_bit else np.float32(0))
                out[b, 2 * pair, j] = low_step * low - low_floor
                out[b, 2 * pair + 1, j] = high_step * high - high_floor


@njit(cache=True, nogil=True, error_model="numpy")
def _row_q6_k(row, out):
    for b in range(row.shape[0]):
        d = _widen_half(row[b, 208], row[b, 209])
        for turn in range(8):  # (128 values, 32 of its 64 bytes, 16 of those)
            half, pair, side = turn // 4, turn // 2 % 2, turn % 2
            part, shift = 8 * half + 2 * pair + side, np.uint8(2 * pair)
            low_step = d * np.float32(np.int8(row[b, 192 + part]))
            high_step = d * np.float32(np.int8(row[b, 196 + part]))
            # named slices: with all indices in one expression the loop is not vectorised
            q, upper = row[b, 64 * half + 32 * pair + 16 * side :], row[b, 128 + 32 * half + 16 * side :]
            low, high = out[b, part], out[b, part + 4]
            for j in range(low.size):
                h = np.uint8(upper[j] >> shift)
                low[j] = low_step * (np.float32(np.uint8(q[j] & 15 | (h & 3) << 4)) - np.float32(32))
                high[j] = high_step * (np.float32(np.uint8(q[j] >> 4 | h & 48)) - np.float32(32))


@njit(cache=True, nogil=True, error_model="numpy")
def _decode_row(type_id, row, out):
    if type_id == 8:
        _row_q8_0(row, out)
    elif type_id == 2:
        _row_q4_0(row, out)
    elif type_id == 6:
        _row_q5_0(row, out)
    elif type_id == 12:
        _row_q4_k(row, out)
    elif type_id == 13:
        _row_q5_k(row, out)
    elif type_id == 14:
        _row_q6_k(row, out)
    elif type_id == -1:
        row_sfp8(row, out)
    else:
        row_int4(row, out)


@njit(cache=True, nogil=True, error_model="numpy")
def _decode_rows(type_id, data, out, start, stop):
    for r in range(start, stop):
        _decode_row(type_id, data[r], out[r])


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _decode_parallel(type_id, data, out, chunk):
    for c in prange((data.shape[0] + chunk - 1) // chunk):
        _decode_rows(type_id, data, out, c * chunk, min(data.shape[0], (c + 1) * chunk))


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(a, b):
    total = np.float32(0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _dot_q8_0(row, x):
    # the head of a decoding step: multiplies the integers and scales once a block, without a scratch row
    total = np.float32(0)
    for b in range(row.shape[0]):
        part = np.float32(0)
        for j in range(x.shape[1]):
            part += np.float32(np.int8(row[b, 2 + j])) * x[b, j]
        total += _widen_half(row[b, 0], row[b, 1]) * part
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _linear_rows(type_id, data, x, out, parts, run, start, stop):
    if type_id == 8 and x.shape[0] == 1:
        vector = x.reshape(data.shape[1], run)
        for r in range(start, stop):
            out[0, r] = _dot_q8_0(data[r], vector)
    else:
        scratch = np.empty((data.shape[1], parts, run), np.float32)
        flat = scratch.reshape(-1)
        for r in range(start, stop):
            _decode_row(type_id, data[r], scratch)
            for t in range(x.shape[0]):
                out[t, r] = _dot(flat, x[t])


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _linear_parallel(type_id, data, x, out, parts, run, chunk):
    for c in prange((data.shape[0] + chunk - 1) // chunk):
        _linear_rows(type_id, data, x, out, parts, run, c * chunk, min(data.shape[0], (c + 1) * chunk))


def _frozen(array):
    # one signature for memory maps and for arrays of our own: Numba compiles anew for a writable one
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _cut(blocks):
    form = FORMATS[blocks.format]
    data = _frozen(blocks.data).reshape(blocks.rows, blocks.columns // form.length, form.size)
    return form, data, form.length // form.run


def _chunk(rows):  # four pieces a thread, so that a thread that is late does not hold up the others
    return max(1, -(-rows // (4 * get_num_threads())))


def decode_jit(blocks):
    """Kernel of `decode`, row by row."""
    form, data, parts = _cut(blocks)
    out = np.empty(blocks.shape, np.float32)
    cells = out.reshape(blocks.rows, data.shape[1], parts, form.run)
    if out.size < SMALL:
        _decode_rows(form.type_id, data, cells, 0, blocks.rows)
    else:
        _decode_parallel(form.type_id, data, cells, _chunk(blocks.rows))
    return _unscaled(out, blocks)


def linear_blocks_jit(x, blocks):
    """Multiply few rows by a quantised matrix without widening it as a whole.

        y[t, r] = sum_d x[t, d] * decode(blocks)[r, d]

    Args:
        x: [T, columns] float32; made for T <= 8: a row of weights is decoded once for all of them.
        blocks: quantised matrix, [rows, columns].

    Returns:
        [T, rows] float32, bit-equal whatever the number of threads.

    Rounding: float32 products and sums in vector lanes, in one order on one machine; Q8_0 with T = 1
        multiplies by the scale after summing a block, SFP8 and INT4 divide by theirs after summing a row.
    Raises: ValueError: x is not [T, columns] float32.
    Source: `decode`; the definition is `x @ decode(blocks).T`.
    Differs: llama.cpp also rounds x to 8 bits a block (Q8_0, Q8_K) before the product.
    """
    form, data, parts = _cut(blocks)
    if x.ndim != 2 or x.shape[1] != blocks.columns or x.dtype != np.float32:
        raise ValueError(f"x: wanted float32 (T, {blocks.columns}), got {x.dtype} {x.shape}")
    x = _frozen(x)
    out = np.empty((x.shape[0], blocks.rows), np.float32)
    if blocks.rows * blocks.columns < SMALL:
        _linear_rows(form.type_id, data, x, out, parts, form.run, 0, blocks.rows)
    else:
        _linear_parallel(form.type_id, data, x, out, parts, form.run, _chunk(blocks.rows))
    return out if blocks.scale is None else np.divide(out, blocks.scale, out=out)
