"""Number formats that NumPy lacks: bfloat16 held as its 16 bits."""

import numpy as np

from ref.ops.jit import kernel
from ref.ops.team import Divided


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Turn bfloat16 bit patterns into the float32 values they stand for; exact, NaN payloads kept.

        value = the float32 whose upper 16 bits are `bits` and whose lower 16 are zero

    Args:
        bits: [...] uint16.

    Returns:
        [...] float32.

    Source: bfloat16 is the upper half of IEEE 754 binary32.
    """
    return np.left_shift(np.asarray(bits, np.uint16), np.uint32(16), dtype=np.uint32).view(np.float32)


def round_bfloat16(x: np.ndarray) -> np.ndarray:
    """Round to the nearest bfloat16, ties to even, and return its bits; NaN stays NaN, overflow becomes infinity.

        bits = (u + 0x7fff + ((u >> 16) & 1)) >> 16,    u the bits of float32(x)

    Args:
        x: [...] float32. (A float64 is rounded to float32 first: two roundings.)

    Returns:
        [...] uint16.

    Source: the rounding of torch's `.to(bfloat16)` and of ml_dtypes.
    Differs: gemma.cpp's SIMD encoders truncate to bfloat16 instead.
    """
    x = np.asarray(x, np.float32)
    u = np.ascontiguousarray(x).view(np.uint32).reshape(x.shape)
    rounded = ((u.astype(np.uint64) + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), ((u >> 16) | 0x40).astype(np.uint16), rounded)


PART = 32_768  # values a thread takes at once


@Divided
@kernel
def _round_values(start, stop, given, result):
    u, out = given[start:stop], result[start:stop]
    for i in range(u.size):
        bits = u[i]
        if bits & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000):
            out[i] = (bits | np.uint32(0x00400000)) & np.uint32(0xFFFF0000)  # NaN stays NaN
        else:
            lowest = (bits >> np.uint32(16)) & np.uint32(1)
            out[i] = (bits + np.uint32(0x7FFF) + lowest) & np.uint32(0xFFFF0000)


def bfloat16_values(x: np.ndarray) -> np.ndarray:
    """Round to the nearest bfloat16, ties to even, and stay in float32: how a bfloat16 run is emulated.

        y = widen_bfloat16(round_bfloat16(x))

    Args:
        x: [...] float32.

    Returns:
        [...] float32.

    Source: `round_bfloat16`, to which it is equal bit by bit.
    """
    u = np.ascontiguousarray(x, np.float32).reshape(-1).view(np.uint32)
    out = np.empty_like(u)
    _round_values(u.size, PART, u, out)
    return out.view(np.float32).reshape(np.shape(x))
