"""Scores and mixes of many queries in float64: a matrix product for each query head.

What the judge calls the truth is float64. A dot product a cell keeps the multipliers waiting there; tiles do not.
"""

from itertools import product

import numpy as np

from ref.ops.product import multiply, panels_of
from ref.ops.team import frozen

MANY = 32  # queries: a panel of float64 is full
QUERIES = 128  # that are mixed at once: no key behind the last that any of them sees is multiplied


def scores_are_wide(q: np.ndarray) -> bool:
    """Tell whether queries [B, T, N, H] are for `wide_scores`."""
    return q.dtype == np.float64 and q.shape[1] >= MANY


def wide_scores(q: np.ndarray, k: np.ndarray, scale: float) -> np.ndarray:
    """Compute `ref.ops.attention.scores`, arguments as there, with the sums of `ref.ops.product.multiply`."""
    (B, T, N, _), (S, K) = q.shape, k.shape[1:3]
    out = np.empty((B, N, T, S), q.dtype)
    for b, head in np.ndindex(B, K):
        keys = frozen(k[b, :, head])
        for n in range(head * N // K, (head + 1) * N // K):
            multiply(panels_of(np.ascontiguousarray(q[b, :, n])), keys, out[b, n])
    out *= q.dtype.type(scale)
    return out


def mix_is_wide(probs: np.ndarray, v: np.ndarray) -> bool:
    """Tell whether probabilities [B, N, T, S] are for `wide_mix`: it multiplies values that nobody sees by 0, too."""
    return probs.dtype == v.dtype == np.float64 and probs.shape[2] >= MANY and bool(np.isfinite(v).all())


def wide_mix(probs: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Compute `ref.ops.attention.mix`, arguments as there, with the sums of `ref.ops.product.multiply`."""
    (B, N, T, _), (K, H) = probs.shape, v.shape[2:]
    out = np.empty((B, T, N, H), v.dtype)
    for b, head in np.ndindex(B, K):
        values = frozen(v[b, :, head].T)
        for n, first in product(range(head * N // K, (head + 1) * N // K), range(0, T, QUERIES)):
            some = probs[b, n, first : first + QUERIES]
            seen = 1 + max(np.flatnonzero(some.any(axis=0)), default=0)
            weights = panels_of(np.ascontiguousarray(some[:, :seen]))
            multiply(weights, frozen(values[:, :seen]), out[b, first : first + QUERIES, n])
    return out
