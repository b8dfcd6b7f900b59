"""The matrix product of many rows: tiles of four outputs and a panel of rows, as large as the registers hold.

                    a panel: L rows of x, turned so that
                    a step of the sum is one vector
                         +-----------------+
                    I    | x[t..t+L, i]    |   i = 0, 1, ...
                         +-----------------+
      four rows     +---+-----------------+
      of w          | i | four sums of L  |   y[r, t..t+L] += w[r, i] * x[t..t+L, i]
                    +---+-----------------+

A step reads L numbers of x and four of w for 4 L products, so that the multipliers are never short of numbers. A piece
of work is some outputs with some panels; both stay in the cache of one core. Which outputs and panels go together, and
in which thread, changes no bit: each sum runs from its first to its last product.
"""

from typing import Any

import numpy as np

from ref.ops.jit import kernel
from ref.ops.simd import BYTES, aligned, aligned_like, fma, like, load, spread, store, turn_16
from ref.ops.team import IN_PYTHON, Divided

DEPTH = 256  # products added up before the sum joins the others: one chain of 2,048 would lose bits
OUTPUTS = 32  # of a piece of work
ROWS = 512  # of x in a piece of work


@kernel(inline="always")
def four_rows(a: np.ndarray, at: int, row: int, step: int, b: np.ndarray, depth: int) -> tuple[Any, Any, Any, Any]:
    """Return y_i = sum_d a[at + i * row + d * step] * b[d], i = 0 .. 3, from the first d to the last; b[d] a vector."""
    L = BYTES // a.itemsize
    y0 = y1 = y2 = y3 = like(load(b, 0), 0.0)
    for d in range(depth):
        x, j = load(b, d * L), at + d * step
        y0 = fma(spread(a, j), x, y0)
        y1 = fma(spread(a, j + row), x, y1)
        y2 = fma(spread(a, j + 2 * row), x, y2)
        y3 = fma(spread(a, j + 3 * row), x, y3)
    return y0, y1, y2, y3


@kernel
def _turn_into(x, panel, row):
    # panel[i * L + row + j] = x[row + j, i], j up to 16
    L, (rows, inputs), flat = BYTES // x.itemsize, x.shape, x.reshape(-1)
    whole = inputs // 16 * 16 if row + 16 <= rows else 0
    for i in range(0, whole, 16):
        turn_16(flat, row * inputs + i, inputs, panel, i * L + row, L)
    for j in range(row, min(row + 16, rows)):
        for i in range(whole, inputs):
            panel[i * L + j] = x[j, i]


@Divided
@kernel
def _turn(start, stop, x, panels):
    # panels[p, i * L + j] = x[p * L + j, i]; zeros behind the last row
    L = BYTES // x.itemsize
    for p in range(start, stop):
        rows = x[p * L : (p + 1) * L]
        if len(rows) < L:
            panels[p, :] = 0
        for row in range(0, len(rows), 16):
            _turn_into(rows, panels[p], row)


@kernel
def _add_four(w, at, row, panel, depth, part, tile):
    # tile[4, L] = or, of a later part of the sum, +=
    L = BYTES // w.itemsize
    y0, y1, y2, y3 = four_rows(w, at, row, 1, panel, depth)
    if part > 0:
        y0, y1, y2, y3 = y0 + load(tile, 0), y1 + load(tile, L), y2 + load(tile, 2 * L), y3 + load(tile, 3 * L)
    store(tile, 0, y0)
    store(tile, L, y1)
    store(tile, 2 * L, y2)
    store(tile, 3 * L, y3)


@kernel
def _multiply_panel(w, inputs, start, stop, panel, tiles):
    # outputs start .. stop of one panel, four at a time, the last few one by one
    L, output = BYTES // w.itemsize, start
    while output < stop:
        several = output + 4 <= stop
        tile = tiles[(output - start) * L : (output - start + 4) * L]
        for d in range(0, inputs, DEPTH):
            at, row = output * inputs + d, inputs if several else 0
            _add_four(w, at, row, panel[d * L :], min(DEPTH, inputs - d), d, tile)
        output += 4 if several else 1


@kernel
def _turn_back(tiles, out):
    # out[t, o] = tiles[o * L + t]
    L, (rows, columns), step = BYTES // tiles.itemsize, out.shape, out.strides[0] // tiles.itemsize
    for t in range(0, rows, 16):
        whole = columns // 16 * 16 if t + 16 <= rows else 0
        for o in range(0, whole, 16):
            turn_16(tiles, o * L + t, L, out[t], o, step)
        for o in range(whole, columns):
            for i in range(t, min(t + 16, rows)):
                out[i, o] = tiles[o * L + i]


@Divided
@kernel
def _multiply(start, stop, panels, w, inputs, out):
    # piece g * pieces + c: outputs from c * OUTPUTS on, rows of x from g * ROWS on
    L, (T, outputs) = BYTES // w.itemsize, out.shape
    pieces, tiles = (outputs + OUTPUTS - 1) // OUTPUTS, aligned_like(w, (OUTPUTS + 3) * L)
    for piece in range(start, stop):
        first, group = piece % pieces * OUTPUTS, piece // pieces * ROWS
        last = min(first + OUTPUTS, outputs)
        for t in range(group, min(group + ROWS, T), L):
            _multiply_panel(w, inputs, first, last, panels[t // L], tiles)
            _turn_back(tiles, out[t : t + L, first:last])


def panels_of(x: np.ndarray) -> np.ndarray:
    """Return rows as `multiply` reads them: for several weights they are turned once.

    Args:
        x: [T, I] float32 or float64, contiguous.

    Returns:
        [panels, I * L], L rows side by side; L depends on the processor.
    """
    L = BYTES // x.itemsize
    panels = aligned((-(-len(x) // L), x.shape[1] * L), x.dtype)
    _turn(len(panels), 1, x, panels)
    return panels


def multiply(panels: np.ndarray, w: np.ndarray, out: np.ndarray) -> None:
    """Multiply rows by the transpose of a matrix, into an array.

        out[t, o] = sum_i x[t, i] * w[o, i]

    Args:
        panels: `panels_of` x.
        w: [O, I] of x's dtype, contiguous.
        out: [T, O] of that dtype, written; its rows may lie apart.

    Rounding: fused products and sums in that dtype, from the first to the last, in parts of DEPTH; bit-equal for any
        number of threads, of other rows and of other outputs.
    Source: Goto & van de Geijn 2008, for what stays in which cache.
    Differs: BLAS libraries choose tiles by shape and threads, and with them the last bits.
    """
    if IN_PYTHON:  # hours of it otherwise
        L = BYTES // w.itemsize
        np.matmul(panels.reshape(-1, w.shape[1], L).swapaxes(1, 2).reshape(-1, w.shape[1])[: len(out)], w.T, out=out)
        return
    pieces = -(-w.shape[0] // OUTPUTS) * -(-len(out) // ROWS)
    _multiply(pieces, 1, panels, w.reshape(-1), w.shape[1], out)
