"""Block-quantised matrices as GGUF files hold them: what the bytes mean, and products without widening them.

A row is cut into blocks. What the bytes of a block mean stands in `ref.ops.block_layouts` and `ref.ops.codes`.
"""

from typing import NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from ref.ops.block_layouts import (
    decode_q4_0,
    decode_q4_k,
    decode_q5_0,
    decode_q5_k,
    decode_q6_k,
    decode_q8_0,
    row_q4_0,
    row_q4_k,
    row_q5_0,
    row_q5_k,
    row_q6_k,
    row_q8_0,
    widen_half,
)
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

    def take_rows(self, rows: slice | np.ndarray) -> "Blocks":
        """Select rows by a slice (no copy) or by an array of indices (copies their bytes)."""
        return Blocks(self.data[rows], self.format, None if self.scale is None else self.scale[rows])


_DEFINITIONS = {
    "Q8_0": decode_q8_0,
    "Q4_0": decode_q4_0,
    "Q5_0": decode_q5_0,
    "Q4_K": decode_q4_k,
    "Q5_K": decode_q5_k,
    "Q6_K": decode_q6_k,
}
_DEFINITIONS |= {"SFP8": decode_sfp8, "INT4": decode_int4}


def decode(blocks: Blocks) -> np.ndarray:
    """Widen a quantised matrix to the float32 values its bytes stand for.

        value = scale * q                   Q8_0, Q4_0, Q5_0, Q6_K   (q signed, after its offset)
        value = scale * q - minimum         Q4_K, Q5_K
        value = q / scale                   SFP8, INT4: one scale a row, beside the bytes

    The byte layouts stand in `ref.ops.block_layouts` and `ref.ops.codes`.

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
def _decode_row(type_id, row, out):
    if type_id == 8:
        row_q8_0(row, out)
    elif type_id == 2:
        row_q4_0(row, out)
    elif type_id == 6:
        row_q5_0(row, out)
    elif type_id == 12:
        row_q4_k(row, out)
    elif type_id == 13:
        row_q5_k(row, out)
    elif type_id == 14:
        row_q6_k(row, out)
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
        total += widen_half(row[b, 0], row[b, 1]) * part
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


def decode_jit(blocks: Blocks) -> np.ndarray:
    """Kernel of `decode`, row by row."""
    form, data, parts = _cut(blocks)
    out = np.empty(blocks.shape, np.float32)
    cells = out.reshape(blocks.rows, data.shape[1], parts, form.run)
    if out.size < SMALL:
        _decode_rows(form.type_id, data, cells, 0, blocks.rows)
    else:
        _decode_parallel(form.type_id, data, cells, _chunk(blocks.rows))
    return _unscaled(out, blocks)


def linear_blocks_jit(x: np.ndarray, blocks: Blocks) -> np.ndarray:
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
