"""Sums as plain loops add them: one term after the other."""

import numpy as np

from ref.emulate.chain import chain_product
from ref.ops.jit import kernel


@kernel
def _plain_sums(rows, order):
    # one value after the other, as a plain loop does; NumPy adds in pairs, which errs least
    out = np.empty(rows.shape[0], np.float32)
    for row in range(rows.shape[0]):
        total = np.float32(0)
        for i in order:
            total += rows[row, i]
        out[row] = total
    return out


def plain_sum(x: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Sum the last axis in an order, as it lies where there is none, and keep the axis."""
    order = np.arange(x.shape[-1]) if order is None else order
    return _plain_sums(np.ascontiguousarray(x).reshape(-1, x.shape[-1]), order).reshape(*x.shape[:-1], 1)


def in_chains(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply [..., T, I] by [..., I, O], each output as one chain of sums."""
    places = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, (*places, *a.shape[-2:])), np.broadcast_to(b, (*places, *b.shape[-2:]))
    out = np.empty((*places, a.shape[-2], b.shape[-1]), np.float32)
    for place in np.ndindex(places):
        out[place] = chain_product(a[place], b[place].T)
    return out
