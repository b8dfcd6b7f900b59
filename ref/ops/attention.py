"""Grouped-query attention in three steps: scores, softmax, mix. `ops/attend` does them at once.

Keys and values arrive in *slots* 0 .. S-1 of an array. `origin` is the key index of slot 0; where the array is a ring
(a local layer's cache), key j lies in slot (j - origin) mod S and only the newest S keys are there.
"""

import numpy as np

from ref.ops.jit import kernel
from ref.ops.team import Divided
from ref.ops.wide_attention import mix_is_wide, scores_are_wide, wide_mix, wide_scores


def scores(q: np.ndarray, k: np.ndarray, scale: float) -> np.ndarray:
    """Compare every query with every key of its group's head.

        scores[b, n, t, s] = scale * sum_h q[b, t, n, h] * k[b, s, n // G, h]

    Args:
        q: [B, T, N, H] float, rotated, unscaled.
        k: [B, S, K, H] float, rotated; N = K*G.
        scale: `query_scale` of the config.

    Returns:
        [B, N, T, S] q.dtype, unmasked.

    Rounding: the sum in q.dtype, then one product.
    Source: Ainslie et al. 2023 (GQA); transformers 5.23 `eager_attention_forward`.
    Differs: google-deepmind/gemma and llama.cpp scale q instead of the scores. Head n reads group n // G; tiling
        (n mod K) is a known mistake, invisible where K = 1 (270M, 1B).
    """
    (B, T, N, H), (S, K) = q.shape, k.shape[1:3]
    grouped = q.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4).reshape(B, K, N // K * T, H)  # B K (G T) H
    return ((grouped @ k.transpose(0, 2, 3, 1)) * q.dtype.type(scale)).reshape(B, N, T, S)


def slot_keys(slots: int, origin: int, newest: int) -> np.ndarray:
    """Return the key index that each slot holds: the newest j < `newest` with (j - origin) mod S == slot.

    Args:
        slots: S.
        origin: key index of slot 0.
        newest: one past the newest key.

    Returns:
        [S] int64.

    Source: definition of a ring.
    """
    return newest - 1 - (newest - 1 - origin - np.arange(slots)) % slots


def _seen(visible, slots, origin):
    """Return visibility as a [B, T, S] boolean matrix of slots, whichever way it was given."""
    if visible.dtype == bool:
        return visible
    key = slot_keys(slots, origin, int(visible[..., 1].max()))
    return (key >= visible[..., :1]) & (key < visible[..., 1:])


def softmax(scores: np.ndarray, visible: np.ndarray, origin: int = 0) -> np.ndarray:
    """Turn each query's scores of visible keys into probabilities.

        probs[b, n, t, s] = exp(scores[b, n, t, s] - m) / sum over visible s' of exp(scores[b, n, t, s'] - m)

    with m the largest visible score, and 0 for keys that are not visible.

    Args:
        scores: [B, N, T, S] float.
        visible: [B, T, 2] integer ranges of key indices, or a [B, T, S] boolean matrix of slots.
        origin: key index of slot 0.

    Returns:
        [B, N, T, S] scores.dtype. A query that sees nothing has all zeros.

    Rounding: float64 inside; one rounding to scores.dtype on return.
    Source: transformers 5.23 `eager_attention_forward`; onnx `op_attention.py` for the empty row.
    Differs: transformers computes in float32 and gives an empty row 1/S each.
    """
    seen = _seen(visible, scores.shape[-1], origin)[:, None]
    wide = np.where(seen, scores.astype(np.float64), -np.inf)
    largest = wide.max(axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(wide - np.where(np.isfinite(largest), largest, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return (weights / np.where(total == 0, 1.0, total)).astype(scores.dtype)


def mix(probs: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Average the values of each query's group with its probabilities.

        mix[b, t, n, h] = sum_s probs[b, n, t, s] * v[b, s, n // G, h]

    Args:
        probs: [B, N, T, S] float.
        v: [B, S, K, H] float.

    Returns:
        [B, T, N, H] v.dtype.

    Rounding: the sum in v.dtype.
    Source: transformers 5.23 `eager_attention_forward`.
    """
    (B, N, T, S), (K, H) = probs.shape, v.shape[2:]
    grouped = probs.reshape(B, K, N // K * T, S) @ v.transpose(0, 2, 1, 3)  # B K (G T) H
    return np.ascontiguousarray(grouped.reshape(B, N, T, H).transpose(0, 2, 1, 3))


ROWS = 4  # queries of a head that a thread takes at once


@kernel(fastmath={"contract", "reassoc"})
def _dot(x, y):
    # sums in vector lanes of the input's dtype
    total = x.dtype.type(0)
    for h in range(x.size):
        total += x[h] * y[h]
    return total


@Divided
@kernel
def _scores(start, stop, q, k, scale, out):
    T, N, G = q.shape[1], q.shape[2], q.shape[2] // k.shape[2]
    for row in range(start, stop):
        b, n, t = row // (N * T), row // T % N, row % T
        for s in range(k.shape[1]):
            out[b, n, t, s] = _dot(q[b, t, n], k[b, s, n // G]) * scale


def scores_jit(q: np.ndarray, k: np.ndarray, scale: float) -> np.ndarray:
    """Kernel of `scores`: one dot product a cell, in vector lanes; of many float64 queries matrix products."""
    if scores_are_wide(q):
        return wide_scores(q, k.astype(q.dtype, copy=False), scale)
    out = np.empty((q.shape[0], q.shape[2], q.shape[1], k.shape[1]), q.dtype)
    _scores(out[..., 0].size, ROWS, np.ascontiguousarray(q), np.ascontiguousarray(k), q.dtype.type(scale), out)
    return out


@Divided
@kernel
def _softmax(start, stop, scores, visible, out):
    _, N, T, S = scores.shape
    for row in range(start, stop):
        b, n, t = row // (N * T), row // T % N, row % T
        largest, total = -np.inf, 0.0
        for s in range(S):
            if visible[b, t, s]:
                largest = max(largest, np.float64(scores[b, n, t, s]))
        for s in range(S):
            if visible[b, t, s]:
                total += np.exp(np.float64(scores[b, n, t, s]) - largest)
        for s in range(S):
            seen = visible[b, t, s]
            out[b, n, t, s] = np.exp(np.float64(scores[b, n, t, s]) - largest) / total if seen else 0.0


def softmax_jit(scores: np.ndarray, visible: np.ndarray, origin: int = 0) -> np.ndarray:
    """Kernel of `softmax`: three sweeps a row, one float64 sum from the first key to the last."""
    out = np.empty_like(scores)
    _softmax(out[..., 0].size, ROWS, np.ascontiguousarray(scores), _seen(visible, scores.shape[-1], origin), out)
    return out


MIXED = 64  # keys whose values are added up before the sum joins the others: 4,096 in a row would lose three bits


@kernel(fastmath={"contract"})
def _add(out, p, v):
    for h in range(out.size):
        out[h] += p * v[h]


@Divided
@kernel
def _mix(start, stop, probs, v, out):
    N, T, G = probs.shape[1], probs.shape[2], probs.shape[1] // v.shape[2]
    for row in range(start, stop):
        b, n, t = row // (N * T), row // T % N, row % T
        part = np.zeros(v.shape[3], v.dtype)
        for s in range(v.shape[1]):
            if probs[b, n, t, s] != 0:
                _add(part, probs[b, n, t, s], v[b, s, n // G])
            if s % MIXED == MIXED - 1 or s == v.shape[1] - 1:
                out[b, t, n] += part
                part[:] = 0


def mix_jit(probs: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Kernel of `mix`: adds the values key by key, in sums of 64 and then those sums; in float64 matrix products."""
    if mix_is_wide(probs, v):
        return wide_mix(probs, v)
    out = np.zeros((probs.shape[0], probs.shape[2], probs.shape[1], v.shape[3]), v.dtype)
    _mix(out[..., 0].size, ROWS, np.ascontiguousarray(probs), np.ascontiguousarray(v), out)
    return out
