"""Switching floating point of 8 bits: from values to the codes that `ref.ops.codes` reads."""

import numpy as np
from numpy.typing import ArrayLike

from ref.errors import wanted

LARGEST_SFP8 = np.float32(1.875)


def sfp8_codes(x: ArrayLike) -> np.ndarray:
    """Round to the nearest switching floating-point code, ties to an even mantissa.

        3 bits of mantissa where |x| >= 1.9375 * 2^-8, else 2; below 1.875 * 2^-24: 0; from there to 1.25 * 2^-23: that

    Args:
        x: [...] float32, finite, at most 1.875 in magnitude.

    Returns:
        [...] uint8, as `ref.ops.codes.decode_sfp8` reads them; never 0x80.

    Raises: BadInput: a larger value: scale it first; a NaN.
    Source: gemma.cpp `compression/sfp_test.cc`, the scalar functions, to which this is bit-equal.
    Differs: gemma.cpp's vector encoder cuts float32 to bfloat16 first. google-deepmind/gemma's simulation
        finds powers of two by float32 logarithms, which miss some below 2^-12, and takes those below 2^-20 for 2^-20.
    """
    x = np.asarray(x, np.float32)
    if not (np.abs(x) <= LARGEST_SFP8).all():
        place = np.argwhere(~(np.abs(x) <= LARGEST_SFP8))[0].tolist()
        raise wanted("value", "SFP8", "at most 1.875 in magnitude, or a scale", f"{x[tuple(place)]} at {place}")
    bits = x.view(np.uint32)
    size = bits & np.uint32(0x7FFFFFFF)
    shift = np.where(np.abs(x) >= 1.9375 * 2.0**-8, 20, 21).astype(np.uint32)  # 23 bits of mantissa less 3, less 2
    half, even = (np.uint32(1) << (shift - np.uint32(1))) - np.uint32(1), (size >> shift) & np.uint32(1)
    rounded = ((size + half + even) >> shift).astype(np.int64)  # exponent and mantissa, side by side
    large = 64 + rounded - ((127 - 7) << 3)
    small = rounded - ((127 - 23) << 2)
    code = np.where(np.abs(x) >= 1.875 * 2.0**-8, np.where(shift == 20, large, 64), np.maximum(small, 0))
    code = np.where((small == 0) & (shift == 21), 1, code)  # 2^-23 itself would be code 0
    return (code | np.where((code > 0) & (bits >> 31 > 0), 0x80, 0)).astype(np.uint8)
