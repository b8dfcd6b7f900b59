"""Projections: how much of one difference is in another, and how sure that is."""

import numpy as np

from ref.ops.jit import kernel
from ref.ops.team import Divided

VALUES = 2**16  # values a thread multiplies at once


@kernel(fastmath={"contract", "reassoc"})
def _dots(y, t, w):
    rd = rr = dd = 0.0
    for i in range(y.size):
        r, d = np.float64(y[i]) - np.float64(t[i]), np.float64(w[i]) - np.float64(t[i])
        rd += r * d
        rr += r * r
        dd += d * d
    return rd, rr, dd


@Divided
@kernel
def _part_dots(start, stop, y, t, w, out):
    for part in range(start, stop):
        here = slice(part * VALUES, (part + 1) * VALUES)
        out[part] = _dots(y[here], t[here], w[here])


def dots_of(value: np.ndarray, truth: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Return <y - t, w - t>, ||y - t||^2 and ||w - t||^2, in float64.

    Args:
        value: y, [...] float.
        truth: t, the same shape.
        other: w, the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if not value.shape == truth.shape == other.shape:
        raise ValueError(f"shapes: wanted the same, got {value.shape}, {truth.shape} and {other.shape}")
    flat = [np.ascontiguousarray(x).reshape(-1) for x in (value, truth, other)]
    out = np.zeros((-(-value.size // VALUES), 3))
    _part_dots(len(out), 1, *flat, out)
    a, b, c = out.sum(0)
    return float(a), float(b), float(c)


@kernel(fastmath={"contract", "reassoc"})
def _spread(y, t, w, c, square):
    total = 0.0
    for i in range(y.size):
        d = np.float64(w[i]) - np.float64(t[i])
        left = np.float64(y[i]) - np.float64(t[i]) - c * d
        own = 1.0 - d * d / square  # a value that decides alone says nothing of its own error
        total += (d * left / max(own, 1e-3)) ** 2
    return total


@Divided
@kernel
def _part_spreads(start, stop, y, t, w, c, square, out):
    for part in range(start, stop):
        here = slice(part * VALUES, (part + 1) * VALUES)
        out[part] = _spread(y[here], t[here], w[here], c, square)


def spread_of(value: np.ndarray, truth: np.ndarray, other: np.ndarray, c: float, square: float) -> float:
    """Return the standard error of a projection's coefficient where few values may carry everything.

        d = w - t,  r = y - t - c d,  h = d^2 / ||d||^2:    stderr = sqrt(sum (d r / (1 - h))^2) / ||d||^2

    Args:
        value: y, [...] float.
        truth: t, the same shape.
        other: w, the same shape.
        c: the coefficient, <y - t, d> / ||d||^2.
        square: ||d||^2, from `dots_of`.

    Source: MacKinnon and White 1985, the estimator HC3.
    Differs: one variance for all values is ten times too small where few channels are large, as in Gemma's norms.
    """
    y, t, w = (np.ascontiguousarray(x).reshape(-1) for x in (value, truth, other))
    out = np.zeros(-(-y.size // VALUES))
    _part_spreads(len(out), 1, y, t, w, c, square, out)
    return float(np.sqrt(out.sum()) / square)
