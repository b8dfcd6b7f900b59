"""Formats with one scale a channel: switching floating point of 8 bits, and integers of 4.

The scale is what the channel was multiplied by before it was rounded; decoding divides by it.
"""

import numpy as np

from ref.ops.jit import kernel


def decode_sfp8(codes: np.ndarray) -> np.ndarray:
    """Turn switching floating-point codes into the values they stand for: two kinds of small float in one byte.

        s e e e m m m m:  bit 7 the sign, c the other seven
        c >= 64:  2^E (1 + m / 8),  c - 64 = 8 (E + 7) + m,    E = -7 .. 0
        c <  64:  2^E (1 + m / 4),  c      = 4 (E + 23) + m,   E = -23 .. -8;    c = 0 is 0

    Args:
        codes: [...] uint8. 0x80, a negative zero, is never written; it reads as -0.

    Returns:
        [...] float32, from -1.875 to 1.875; the smallest above 0 is 1.25 * 2^-23.

    Source: gemma.cpp `compression/sfp-inl.h`; Gemma 3 report, section 2.3.
    """
    c = (codes & 0x7F).astype(np.uint32)
    bits = np.where(c >= 64, 0x3800 + (c << 4), np.where(c == 0, 0, 0x3400 + (c << 5)))
    return ((bits | (codes & 0x80).astype(np.uint32) << 8) << 16).astype(np.uint32).view(np.float32)


def decode_int4(packed: np.ndarray) -> np.ndarray:
    """Turn packed codes of 4 bits into integers.

        value of column 2 j = (low half of byte j) - 8,    of column 2 j + 1: the high half

    Args:
        packed: [..., I / 2] uint8.

    Returns:
        [..., I] float32, from -8 to 7.

    Source: own layout; the order of `compressed-tensors`' `pack_to_int32`, byte by byte.
    Differs: Q4_0 has values 0 to 15 of a block in the low halves, 16 to 31 in the high ones.
    """
    halves = np.stack([packed & 15, packed >> 4], axis=-1)
    return halves.reshape(*packed.shape[:-1], -1).astype(np.float32) - 8


# rows as `ref.ops.blocks` cuts them: row[block, byte of the block], out[block, part, value of the part]


@kernel
def row_sfp8(row: np.ndarray, out: np.ndarray) -> None:
    """Kernel of `decode_sfp8`, one row."""
    flat, values = row.reshape(-1), out.reshape(-1)
    for i in range(flat.size):
        code = np.uint32(flat[i])
        c = code & np.uint32(0x7F)
        small = np.uint32(0x3400) + (c << np.uint32(5)) if c else np.uint32(0)
        bits = np.uint32(0x3800) + (c << np.uint32(4)) if c >= np.uint32(64) else small
        bits |= (code & np.uint32(0x80)) << np.uint32(8)
        values[i] = np.uint32(bits << np.uint32(16)).view(np.float32)


@kernel
def row_int4(row: np.ndarray, out: np.ndarray) -> None:
    """Kernel of `decode_int4`, one row."""
    flat, values = row.reshape(-1), out.reshape(-1)
    for i in range(flat.size):
        values[2 * i] = np.float32(np.uint8(flat[i] & 15)) - np.float32(8)
        values[2 * i + 1] = np.float32(np.uint8(flat[i] >> 4)) - np.float32(8)
