"""Matrix products whose every output is one chain of float32 sums: of all valid orders the one that errs most.

A plain loop sums like that, and so do cuBLAS at large shapes and MLX on a CPU. BLAS libraries on a CPU keep many
partial sums: their error hardly grows with the length of the sum, that of a chain does.
"""

from typing import NamedTuple

import numpy as np

from ref.ops.jit import kernel
from ref.ops.simd import BYTES, aligned, like, load, spread, store
from ref.ops.team import Divided

LANES = BYTES // 4  # outputs that are summed side by side, each in a lane of its own
LINE = 16  # float32 of a cache line
TOKENS = 4  # rows at once: with so many, a vector of weights is used four times


@kernel
def _pack(b, order, panels):
    # panels [O / LANES, I * LANES]: outputs side by side for each input, in an order; those beyond the last are 0
    for panel in range(panels.shape[0]):
        for first in range(0, LANES, LINE):  # a cache line of the panel at once, from rows that stay in the cache
            for i in range(order.size):
                for lane in range(first, first + LINE):
                    o = panel * LANES + lane
                    panels[panel, i * LANES + lane] = b[o, order[i]] if o < b.shape[0] else np.float32(0)


@kernel
def _four_rows(a, panel, out):
    # a [4, I], out [4 * LANES]: products and sums are rounded apart, as without fused multiply-add
    a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
    s0 = s1 = s2 = s3 = like(load(panel, 0), 0.0)
    for i in range(a.shape[1]):
        w = load(panel, i * LANES)
        s0 = s0 + spread(a0, i) * w
        s1 = s1 + spread(a1, i) * w
        s2 = s2 + spread(a2, i) * w
        s3 = s3 + spread(a3, i) * w
    store(out, 0, s0)
    store(out, LANES, s1)
    store(out, 2 * LANES, s2)
    store(out, 3 * LANES, s3)


@Divided
@kernel
def _chains(start, stop, a, panels, out):
    some = np.empty(TOKENS * LANES, np.float32)
    for panel in range(start, stop):
        first = panel * LANES
        last = min(first + LANES, out.shape[1])
        for t in range(0, a.shape[0], TOKENS):
            _four_rows(a[t : t + TOKENS], panels[panel], some)
            for row in range(t, min(t + TOKENS, out.shape[0])):
                for o in range(first, last):
                    out[row, o] = some[(row - t) * LANES + o - first]


class Panels(NamedTuple):
    """The second factor of `chain_product`, as its kernel reads it; made once for several first factors."""

    outputs: int
    values: np.ndarray  # [O / LANES, I * LANES] float32

    @property
    def size(self) -> int:
        """How many numbers they are."""
        return self.values.size


def packed(b: np.ndarray, order: np.ndarray | None = None) -> Panels:
    """Bring a matrix into the order in which `chain_product` reads it; arguments as there."""
    outputs, inputs = b.shape
    values = aligned((-(-outputs // LANES), max(1, inputs) * LANES), np.float32)
    _pack(np.ascontiguousarray(b, np.float32), np.arange(inputs) if order is None else order, values)
    return Panels(outputs, values)


def chain_product(a: np.ndarray, b: np.ndarray | Panels, order: np.ndarray | None = None) -> np.ndarray:
    """Multiply by a transpose, each output as one chain of sums.

        y[t, o] = ((a[t, 0] * b[o, 0] + a[t, 1] * b[o, 1]) + a[t, 2] * b[o, 2]) + ...

    Args:
        a: [T, I] float32.
        b: [O, I] float32, or what `packed` made of it.
        order: [I] a permutation of the inputs of `a` and `b`; None is as they lie.

    Returns:
        [T, O] float32.

    Rounding: each product and each sum to float32, in that order.
    Source: definition of a plain loop.
    Differs: BLAS libraries on a CPU sum in blocks and lanes, and with fused multiply-add.
    """
    panels = b if isinstance(b, Panels) else packed(b, order)
    whole = np.zeros((-(-a.shape[0] // TOKENS) * TOKENS, a.shape[1]), np.float32)
    whole[: a.shape[0]] = a if order is None else np.take(a, order, axis=1)
    out = np.empty((a.shape[0], panels.outputs), np.float32)
    _chains(len(panels.values), 1, whole, panels.values, out)
    return out
