"""Rotary position embedding: tables of cosines and sines, and the rotation."""

import numpy as np
from numpy.typing import DTypeLike

from ref.ops.jit import kernel
from ref.ops.team import Divided


def rope_table(
    positions: np.ndarray, head_dim: int, base: float, factor: float, dtype: DTypeLike
) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate the cosine and sine of every position's rotation angles.

        angle[b, t, j] = positions[b, t] / (factor * base^(2j/H)),    j = 0 .. H/2 - 1

    Args:
        positions: [B, T] integer token indices from 0; what a padded slot holds is irrelevant.
        head_dim: H, even.
        base: 10,000 in local layers, 1,000,000 in global ones.
        factor: linear position scaling, 8 in the global layers of 4B, 12B and 27B, else 1.
        dtype: of the result.

    Returns:
        (cos, sin): two [B, T, H/2] arrays of dtype; angles in radians.

    Rounding: angles, cosines and sines in float64; one rounding to dtype. Computed once a pass, so there is no kernel.
    Source: Su et al. 2021; Chen et al. 2023 (linear interpolation); Gemma 3 report section 2.
    Differs: transformers, google-deepmind/gemma and llama.cpp form angles in float32 (5e-6 off at position 640, 1e-3
        at 131,072); transformers rounds cos and sin to the activation dtype, google-deepmind/gemma keeps float32.
    """
    j = np.arange(head_dim // 2, dtype=np.float64)
    inverse_frequency = 1.0 / (factor * np.float64(base) ** (2.0 * j / head_dim))
    angles = np.asarray(positions)[..., None].astype(np.float64) * inverse_frequency
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Rotate the pairs (j, j + H/2) of each head by the angles of its position.

        y[b, t, n, j]       = x[b, t, n, j]       * cos[b, t, j] - x[b, t, n, j + H/2] * sin[b, t, j]
        y[b, t, n, j + H/2] = x[b, t, n, j + H/2] * cos[b, t, j] + x[b, t, n, j]       * sin[b, t, j]

    Args:
        x: [B, T, N, H] float, queries or keys after their norm.
        cos: [B, T, H/2], from `rope_table`.
        sin: [B, T, H/2].

    Returns:
        [B, T, N, H], x.dtype.

    Rounding: float64 inside; one rounding to x.dtype on return.
    Source: transformers 5.23 `apply_rotary_pos_emb` (half-split pairs, "NeoX").
    Differs: the RoFormer paper and GPT-J pair (2j, 2j + 1); a checkpoint works with one pairing only.
    """
    low, high = np.split(x.astype(np.float64), 2, axis=-1)
    c, s = cos[:, :, None, :].astype(np.float64), sin[:, :, None, :].astype(np.float64)
    return np.concatenate([low * c - high * s, high * c + low * s], axis=-1).astype(x.dtype)


@kernel
def _rotate_token(x, cos, sin, out):
    half = cos.size
    for n in range(x.shape[0]):
        for j in range(half):
            low, high = np.float64(x[n, j]), np.float64(x[n, j + half])
            c, s = np.float64(cos[j]), np.float64(sin[j])
            out[n, j] = low * c - high * s
            out[n, j + half] = high * c + low * s


PIECE = 16_384  # numbers that a thread takes at once


@Divided
@kernel
def _rotate_tokens(start, stop, x, cos, sin, out):
    for token in range(start, stop):
        _rotate_token(x[token], cos[token], sin[token], out[token])


def rotate_jit(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Kernel of `rotate`: one pair at a time, float64 inside."""
    tokens = np.ascontiguousarray(x).reshape(-1, *x.shape[2:])
    out = np.empty_like(tokens)
    piece = max(1, PIECE * len(tokens) // max(1, tokens.size))
    _rotate_tokens(len(tokens), piece, tokens, cos.reshape(-1, cos.shape[-1]), sin.reshape(-1, sin.shape[-1]), out)
    return out.reshape(x.shape)
