"""Products with weights, whatever they are held as: floats, bfloat16 bits, quantised blocks, or rows made on demand.

    Weight = float array [O, I] | uint16 bfloat16 bits [O, I] | Blocks [O, I] | ByRows [O, I]

O outputs and I inputs, as Hugging Face stores a linear layer.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ref.ops.blocks import Blocks, decode, decode_jit, divide_by_scale, job_of
from ref.ops.dots import dot_rows, lined_up, piece_of
from ref.ops.jit import kernel
from ref.ops.product import OUTPUTS, multiply, panels_of
from ref.ops.rounding import widen_bfloat16
from ref.ops.simd import aligned
from ref.ops.team import Divided, frozen, together


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


def linears(x: np.ndarray, weights: Sequence[Weight]) -> tuple[np.ndarray, ...]:
    """Project by several weights that read the same numbers, such as those of queries, keys and values.

        y_k[..., o] = sum_i x[..., i] * w_k[o, i]

    Args:
        x: [..., I] float.
        weights: Weights [O_k, I].

    Returns:
        [..., O_k] x.dtype for each.

    Rounding: as `linear`; kernels differ only in how often threads are started and x is read.
    Source: `linear`.
    Differs: google-deepmind/gemma and vLLM stack the weights, which gives other shapes and the same numbers.
    """
    return tuple(linear(x, weight) for weight in weights)


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


FEW = 8  # up to so many rows of x each row of the weight is read as it lies; more are the work of tiles
TILE = 2**20  # numbers widened at a time: 4 MB of float32 stay in the last-level cache


def _few(rows, weights):
    # products with weights that are read as they lie; the threads are started once for some of them
    x, outs = lined_up(rows), [np.empty((len(rows), weight.shape[0]), rows.dtype) for weight in weights]
    together(*(_job(x, weight, out) for weight, out in zip(weights, outs, strict=True)))
    pairs = zip(weights, outs, strict=True)
    return [divide_by_scale(out, weight) if isinstance(weight, Blocks) else out for weight, out in pairs]


def _job(x, weight, out):
    if isinstance(weight, Blocks):
        return job_of(x, weight, out)
    return dot_rows, weight.shape[0], piece_of(weight.shape[1]), frozen(weight), x, out


@Divided
@kernel
def _widen_rows(start, stop, bits, out):
    for r in range(start, stop):
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
    _widen_rows(rows.shape[0], piece_of(rows.shape[1]), frozen(rows), out)
    return out


def linear_jit(x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
    """Kernel of `linear`: few rows read the weight as it lies; many rows widen it tile by tile and multiply these."""
    [y] = linears_jit(x, (weight,))
    if bias is not None:
        y += widen(bias).astype(x.dtype, copy=False)
    return y


def linears_jit(x: np.ndarray, weights: Sequence[Weight]) -> tuple[np.ndarray, ...]:
    """Kernel of `linears`: the threads are started once where few rows read weights as they lie."""
    rows = np.ascontiguousarray(x.reshape(-1, x.shape[-1]))
    few = len(rows) <= FEW
    if few and all(_is_read_as_it_lies(weight, x.dtype) for weight in weights):
        outs = _few(rows, weights)
    else:
        panels = None if few else panels_of(rows)
        outs = [_by_tiles(rows, weight, panels) for weight in weights]
    return tuple(out.reshape((*x.shape[:-1], out.shape[1])) for out in outs)


def _is_read_as_it_lies(weight, dtype):
    if isinstance(weight, np.ndarray):
        return weight.dtype == dtype or (weight.dtype == np.uint16 and dtype == np.float32)
    return isinstance(weight, Blocks) and dtype == np.float32


def _by_tiles(rows, weight, panels):
    (outputs, inputs), as_x = weight.shape, isinstance(weight, np.ndarray) and weight.dtype == rows.dtype
    out = aligned((len(rows), outputs), rows.dtype)  # threads that write beside each other share no cache line
    step = outputs if as_x else max(1, TILE // inputs // OUTPUTS) * OUTPUTS
    for start in range(0, outputs, step):
        stop = min(start + step, outputs)
        tile = weight.take_rows(slice(start, stop)) if isinstance(weight, ByRows) else weight
        tile = _tile(tile, *((0, stop - start) if tile is not weight else (start, stop)), rows.dtype)
        if panels is None:
            [out[:, start:stop]] = _few(rows, (tile,))
        else:
            multiply(panels, frozen(tile), out[:, start:stop])
    return out


def embed_jit(ids: np.ndarray, table: Weight, scale: float, dtype: DTypeLike) -> np.ndarray:
    """Kernel of `embed`: the definition itself, since only the looked-up rows are widened."""
    return embed(ids, table, scale, dtype)
