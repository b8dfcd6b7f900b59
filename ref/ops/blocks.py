"""Block-quantised matrices as GGUF files hold them: what the bytes mean, and products without widening them.

A row is cut into blocks. What the bytes of a block mean stands in `ref.ops.block_layouts` and `ref.ops.codes`.
"""

from typing import Any, NamedTuple

import numpy as np

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
)
from ref.ops.codes import decode_int4, decode_sfp8, row_int4, row_sfp8
from ref.ops.dot_blocks import DOTS, HALVES
from ref.ops.dots import dot_rows, lined_up, piece_of
from ref.ops.jit import kernel
from ref.ops.team import Divided, frozen, specialised, together


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
        return self.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape of the decoded matrix."""
        form = FORMATS[self.format]
        return self.data.shape[0], self.data.shape[1] // form.size * form.length

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


_decode_row: Any = None  # in the copies of the next: of one format


def _decode_rows(start, stop, data, out):
    for r in range(start, stop):
        _decode_row(data[r], out[r])


_ROWS = {
    "Q8_0": row_q8_0,
    "Q4_0": row_q4_0,
    "Q5_0": row_q5_0,
    "Q4_K": row_q4_k,
    "Q5_K": row_q5_k,
    "Q6_K": row_q6_k,
    "SFP8": row_sfp8,
    "INT4": row_int4,
}


def _decoder(name, row):
    return Divided(kernel(specialised(_decode_rows, f"decode_rows_{name.lower()}", _decode_row=row)))


DECODERS = {name: _decoder(name, row) for name, row in _ROWS.items()}  # each is compiled when it is first needed


def decode_jit(blocks: Blocks) -> np.ndarray:
    """Kernel of `decode`, row by row."""
    form, (rows, columns) = FORMATS[blocks.format], blocks.shape
    out = np.empty((rows, columns), np.float32)
    data = frozen(blocks.data).reshape(rows, columns // form.length, form.size)
    cells = out.reshape(rows, data.shape[1], form.length // form.run, form.run)
    DECODERS[blocks.format](rows, piece_of(columns), data, cells)
    return _unscaled(out, blocks)


def linear_blocks_jit(x: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Multiply few rows by a quantised matrix without widening it as a whole.

        y[t, r] = sum_d x[t, d] * decode(blocks)[r, d]

    Args:
        x: [T, columns] float32; made for few rows: a block is read from memory once, and decoded for each of them.
        blocks: quantised matrix, [rows, columns].

    Returns:
        [T, rows] float32, bit-equal whatever the number of threads and of other rows of x.

    Rounding: float32 products and sums in vector lanes, in one order. Q8_0, Q4_0 and Q5_0 multiply by a block's scale
        after summing its products, the K formats fuse the two steps of decoding; SFP8 and INT4 divide by theirs after
        summing a row.
    Raises: ValueError: x is not [T, columns] float32.
    Source: `decode`; the definition is `x @ decode(blocks).T`.
    Differs: llama.cpp also rounds x to 8 bits a block (Q8_0, Q8_K) before the product.
    """
    rows, columns = blocks.shape
    if x.ndim != 2 or x.shape[1] != columns or x.dtype != np.float32:
        raise ValueError(f"x: wanted float32 (T, {columns}), got {x.dtype} {x.shape}")
    out = np.empty((len(x), rows), np.float32)
    together(job_of(lined_up(x), blocks, out))
    return divide_by_scale(out, blocks)


def divide_by_scale(out: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Finish products that `job_of` has filled in; in place."""
    return out if blocks.scale is None else np.divide(out, blocks.scale, out=out)


def job_of(x: np.ndarray, blocks: Blocks, out: np.ndarray) -> tuple:
    """Return a job of `together` that fills `out` [T, rows] with products of x [T, columns], not divided by a scale."""
    rows, columns = blocks.shape
    if blocks.format in DOTS:
        return DOTS[blocks.format], rows, piece_of(columns), frozen(blocks.data), HALVES, x, out
    return dot_rows, rows, piece_of(columns), frozen(decode_jit(blocks._replace(scale=None))), x, out
