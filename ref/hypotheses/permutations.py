"""Permutations: which one rows were moved by, and what it is called."""

import numpy as np

MOST = 4096  # places of an axis for which an order is looked for: the matrix of likenesses must fit
ALIKE = 0.6  # how like its place a moved row must be
TIED = 1e-6  # of two rows that are as like


def order_of(y: np.ndarray, t: np.ndarray, signs: bool = False) -> np.ndarray | None:
    """Return the order in which rows stand: y[i] = t[order[i]]; None where there is none, or its own.

    Args:
        y: [rows, values] the dump's.
        t: [rows, values] the truth.
        signs: whether rows may also be reversed in sign.
    """
    size = len(y)
    if not 1 < size <= MOST:
        return None
    some = slice(None, None, max(1, y.shape[1] // 4096))
    a, b = (x[:, some] / (np.linalg.norm(x[:, some], axis=1, keepdims=True) + np.float64(1e-300)) for x in (y, t))
    alike = a @ b.T
    alike = np.abs(alike) if signs else alike
    own, best = np.arange(size), alike.max(axis=1)
    order = np.where(alike[own, own] >= best - TIED, own, -1)
    free = np.ones(size, bool)
    free[order[order >= 0]] = False
    for i in np.flatnonzero(order < 0):  # of equal rows the first that is free
        near = np.flatnonzero(free & (alike[i] >= best[i] - TIED))
        if not len(near):
            return None
        after_last = order[i - 1] + 1 if i else 0
        order[i] = after_last if after_last in near else near[0]
        free[order[i]] = False
    moved = order != own
    return order if moved.any() and np.mean(alike[own, order][moved]) > ALIKE else None


def pattern_of(order: np.ndarray) -> str:
    """Say what an order is, where it is a usual one; empty where it is not."""
    size, own = len(order), np.arange(len(order))
    if np.array_equal(order, own[::-1]):
        return "reversed"
    if size % 2 == 0 and np.array_equal(order, own.reshape(2, -1).T.ravel()):
        return "pairs interleaved: j, j + half, j + 1, ..."
    if size % 2 == 0 and np.array_equal(order, own.reshape(-1, 2).T.ravel()):
        return "pairs taken apart: even ones, then odd ones"
    for rows in range(2, size):
        if size % rows == 0 and np.array_equal(order, own.reshape(rows, -1).T.ravel()):
            return f"{rows} x {size // rows} transposed"
    for by in range(1, size):
        if np.array_equal(order, np.roll(own, by)):
            return f"rolled by {by}" if by <= size // 2 else f"rolled by -{size - by}"
    return ""
