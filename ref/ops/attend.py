"""Grouped-query attention at once: blocks of keys and an online softmax, so that no T x S array ever exists.

Slots, `origin` and rings: see `ops/attention`.
"""

import numpy as np

from ref.ops.attend_blocks import attend_blocks
from ref.ops.attend_few import attend_few
from ref.ops.attention import mix, scores, softmax


def attend(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray, scale: float, origin: int = 0
) -> np.ndarray:
    """Do scores, softmax and mix in one go.

        attend = mix(softmax(scores(q, k, scale), visible, origin), v)

    Args:
        q: [B, T, N, H] float, rotated, unscaled.
        k: [B, S, K, H] float; slots as in the module's docstring.
        v: [B, S, K, H] float.
        visible: [B, T, 2] integer ranges of key indices.
        scale: `query_scale` of the config.
        origin: key index of slot 0.

    Returns:
        [B, T, N, H] q.dtype; zeros where a query sees nothing.

    Rounding: as its three parts.
    Source: its three parts; the kernel follows Milakov & Gimelshein 2018 and Dao 2022 (online softmax).
    Differs: fused kernels elsewhere keep running sums in float32 and give other last bits.
    """
    return mix(softmax(scores(q, k, scale), visible, origin), v)


FEW = 8  # from so many queries on, blocks of them (`ops/attend_blocks`) are faster than one at a time


def attend_jit(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray, scale: float, origin: int = 0
) -> np.ndarray:
    """Kernel of `attend`: few queries with chunks of keys, many in blocks of queries; float64 sums of weights."""
    q, k, v, visible = (np.ascontiguousarray(x) for x in (q, k, v, visible))
    out = np.empty(q.shape, q.dtype)
    given = q, k, v, visible, q.dtype.type(scale), origin, out
    if q.shape[1] < FEW:
        attend_few(*given)
    else:
        attend_blocks(*given)
    return out
