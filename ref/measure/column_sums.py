"""Sums of neighbouring columns of a product: its truth costs a 32nd, and no column is left out.

    z[t, g] = sum over columns c of group g of f_c y[t, c]        the same of the weight's rows gives z's truth:
    z[t, g] = sum_i x[t, i] sum_c f_c w[c, i]

The f_c are random signs times sizes about 1. So errors that have nothing to do with each other add up to the size that
they have column by column: with G groups a token's error comes out right to sqrt(1 / 2 G) of itself, 0.8 % for 8,192.
One column alone is seen with its own error, to a quarter of it; two that are wrong by opposite amounts in one group
cancel for no sign, since their sizes differ.
"""

import numpy as np

from ref.ops.jit import kernel

GROUP = 32  # columns in one sum
SPREAD = 0.25  # of the sizes about 1


def factors_of(start: int, columns: int) -> np.ndarray:
    """Return the factors of some columns, always the same for the same first one.

    Args:
        start: the first.
        columns: how many.

    Returns:
        [columns] float64, of mean square 1 to a few per cent.
    """
    rng = np.random.default_rng([GROUP, start])
    return rng.choice([-1.0, 1.0], columns) * (1 + SPREAD * (2 * rng.random(columns) - 1))


@kernel(fastmath={"contract", "reassoc"})
def _weighed(x, factors):
    total = 0.0
    for c in range(factors.size):
        total += np.float64(x[c]) * factors[c]
    return total


@kernel
def _sums_of_columns(y, factors, out):
    for t in range(y.shape[0]):
        for g in range(out.shape[1]):
            here = slice(g * GROUP, min((g + 1) * GROUP, factors.size))
            out[t, g] = _weighed(y[t, here], factors[here])


@kernel(fastmath={"contract"})
def _add_row(row, factor, out):
    for i in range(row.size):
        out[i] += np.float64(row[i]) * factor


@kernel
def _sums_of_rows(w, factors, out):
    for c in range(factors.size):
        _add_row(w[c], factors[c], out[c // GROUP])


def sums_of_columns(y: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Add columns of [T, C] by groups, each times its factor: [T, C / 32, rounded up] float64."""
    out = np.empty((len(y), -(-factors.size // GROUP)))
    _sums_of_columns(np.ascontiguousarray(y), factors, out)
    return out


def sums_of_rows(w: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Add rows of [C, I] by groups, each times its factor: [C / 32, rounded up, I] float64."""
    out = np.zeros((-(-factors.size // GROUP), w.shape[1]))
    _sums_of_rows(np.ascontiguousarray(w), factors, out)
    return out
