"""Products with weights, whatever they are held as: floats, bfloat16 bits, quantised blocks, or rows made on demand.

    Weight = float array [O, I] | uint16 bfloat16 bits [O, I] | Blocks [O, I] | ByRows [O, I]

O outputs and I inputs, as Hugging Face stores a linear layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit, prange
from numpy.typing import DTypeLike

from ref.ops.blas import block_of, multiply
from ref.ops.blocks import Blocks, decode, decode_jit, linear_blocks_jit
from ref.ops.rounding import widen_bfloat16


class ByRows(NamedTuple):
    """A matrix that is never whole in memory: rows are made when they are asked for, and not kept."""

    shape: tuple[int, int]
    take_rows: Callable[[Any], np.ndarray]  # from a slice or an array of indices to floats or bfloat16 bits


Weight: TypeAlias = np.ndarray | Blocks | ByRows


def take_rows(weight: Weight, rows: slice | np.ndarray) -> np.ndarray | Blocks:
    """Return rows of a weight, held as the weight holds them.

        w[rows, :]

    Args:
        weight: a Weight [O, I].
        rows: a slice, or [R] integer.

    Returns:
        a Weight [R, I], never ByRows; a view where an array and a slice allow it.
    """
    return weight[rows] if isinstance(weight, np.ndarray) else weight.take_rows(rows)


def widen(weight: Weight) -> np.ndarray:
    """Return the float values that a weight stands for.

        bfloat16 bits -> float32, Blocks -> float32, floats as they are, ByRows by what its rows are

    Args:
        weight: a Weight of any kind.

    Returns:
        [O, I] or, of a vector, [O]; float32 or the float dtype it already had.

    Source: `ref.ops.rounding.widen_bfloat16`, `ref.ops.blocks.decode`.
    """
    if isinstance(weight, Blocks):
        return decode(weight)
    if isinstance(weight, ByRows):
        weight = weight.take_rows(slice(None))
    return widen_bfloat16(weight) if weight.dtype == np.uint16 else weight


def widen_jit(weight: Weight) -> np.ndarray:
    """Kernel of `widen`: blocks are decoded by theirs."""
    return decode_jit(weight) if isinstance(weight, Blocks) else widen(weight)


def linear(x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
    """Project: multiply by the transpose of a weight.

        y[..., o] = sum_i x[..., i] * w[o, i] + b[o]

    Args:
        x: [..., I] float.
        weight: a Weight [O, I].
        bias: [O] float or bfloat16 bits; None in the text model, whose linear layers have none.

    Returns:
        [..., O] x.dtype.

    Rounding: the weight is widened, then cast to x.dtype; products and sums in x.dtype (BLAS order), the bias last.
    Source: definition; transformers 5.23 `SiglipAttention` for who has a bias.
    Differs: llama.cpp rounds x to blocks of 8 bits before multiplying with a quantised weight.
    """
    y = x @ widen(weight).astype(x.dtype, copy=False).T
    return y if bias is None else y + widen(bias).astype(x.dtype, copy=False)


def embed(ids: np.ndarray, table: Weight, scale: float, dtype: DTypeLike) -> np.ndarray:
    """Look up each token's row and scale it by the square root of the width.

        h[b, t, d] = table[ids[b, t], d] * scale

    Args:
        ids: [B, T] integer, 0 <= id < V; checked by the caller.
        table: a Weight [V, D].
        scale: sqrt(D).
        dtype: of the result.

    Returns:
        [B, T, D] dtype.

    Rounding: float64 product; one rounding to dtype.
    Source: Vaswani et al. 2017 section 3.4; transformers 5.23 `Gemma3TextScaledWordEmbedding`.
    Differs: in bfloat16 transformers and google-deepmind/gemma round sqrt(D) first (640: 25.298 -> 25.25); MLX and
        gemma.cpp round it to bfloat16 even in a float32 run; llama.cpp keeps float32. The tied head is not scaled.
    """
    unique, place = np.unique(ids, return_inverse=True)
    rows = widen(take_rows(table, unique))
    return (rows.astype(np.float64) * scale).astype(dtype)[place.reshape(ids.shape)]


FEW = 8  # up to so many rows of x the weight is read once, as it lies; more are a matrix product's work
TILE = 4 * 2**20  # elements widened at a time: 16 MB of float32 stay in the last-level cache


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _dot(x, w):
    # sums in vector lanes of x's dtype
    total = x.dtype.type(0)
    for c in range(x.size):
        total += x[c] * w[c]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _dot_bfloat16(x, bits):
    total = np.float32(0)
    for c in range(x.size):
        total += x[c] * np.uint32(np.uint32(bits[c]) << np.uint32(16)).view(np.float32)
    return total


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _few_rows(x, w, out):
    for r in prange(w.shape[0]):
        for t in range(x.shape[0]):
            out[t, r] = _dot(x[t], w[r])


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _few_rows_bfloat16(x, bits, out):
    for r in prange(bits.shape[0]):
        for t in range(x.shape[0]):
            out[t, r] = _dot_bfloat16(x[t], bits[r])


def _few(x, weight):
    if isinstance(weight, Blocks):
        return linear_blocks_jit(x, weight)
    out = np.empty((x.shape[0], weight.shape[0]), x.dtype)
    (_few_rows_bfloat16 if weight.dtype == np.uint16 else _few_rows)(x, weight, out)
    return out


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _widen_rows(bits, out):
    for r in prange(bits.shape[0]):
        for c in range(bits.shape[1]):
            out[r, c] = np.uint32(np.uint32(bits[r, c]) << np.uint32(16)).view(np.float32)


def _tile(weight, start, stop, dtype):
    """Widen rows start..stop of a weight to the dtype of the product."""
    if isinstance(weight, Blocks):
        return decode_jit(weight.take_rows(slice(start, stop))).astype(dtype, copy=False)
    rows = weight[start:stop]
    if rows.dtype != np.uint16:
        return rows.astype(dtype, copy=False)
    out = np.empty(rows.shape, dtype)
    _widen_rows(rows, out)
    return out


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _add_bias(y, bias):
    for t in prange(y.shape[0]):
        for o in range(bias.size):
            y[t, o] += bias[o]


def linear_jit(x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
    """Kernel of `linear`: few rows read the weight as it lies; many rows widen it tile by tile and use BLAS."""
    y = _product(x, weight)
    if bias is not None:
        _add_bias(y.reshape(-1, y.shape[-1]), widen(bias).astype(x.dtype, copy=False))
    return y


def _product(x, weight, block=None):
    """Multiply by a weight, or by a part of one whose product has blocks of another length."""
    rows = np.ascontiguousarray(x.reshape(-1, x.shape[-1]))
    outputs, inputs = weight.shape
    block = block or block_of(outputs)
    if isinstance(weight, ByRows):
        out, step = np.empty((rows.shape[0], outputs), x.dtype), _step(inputs, block)
        for start in range(0, outputs, step):
            part = weight.take_rows(slice(start, start + step))
            out[:, start : start + step] = _product(rows, part, block)
        return out.reshape(*x.shape[:-1], outputs)
    few = rows.shape[0] <= FEW  # BLAS would split one row's sums over threads, and change bits with their number
    as_x = not isinstance(weight, Blocks) and weight.dtype == x.dtype
    if few and (as_x or (x.dtype == np.float32 and _narrow(weight))):
        return _few(rows, weight).reshape(*x.shape[:-1], outputs)
    out = np.empty((rows.shape[0], outputs), x.dtype)
    step = outputs if as_x else _step(inputs, block)
    for start in range(0, outputs, step):
        stop = min(start + step, outputs)
        tile = _tile(weight, start, stop, x.dtype)
        if few:
            out[:, start:stop] = _few(rows, tile)
        else:
            multiply(rows, tile, out[:, start:stop], block)
    return out.reshape(*x.shape[:-1], outputs)


def _step(inputs, block):
    """Return how many outputs are widened at a time: whole blocks of a product."""
    return max(1, TILE // inputs // block) * block


def _narrow(weight):
    return isinstance(weight, Blocks) or weight.dtype == np.uint16


def embed_jit(ids: np.ndarray, table: Weight, scale: float, dtype: DTypeLike) -> np.ndarray:
    """Kernel of `embed`: the definition itself, since only the looked-up rows are widened."""
    return embed(ids, table, scale, dtype)
