"""Layouts of ggml's block formats: what the bytes of a block mean. Each is a definition with its row kernel below it.

A block stores one or two float16 scales and a small integer per value. The K formats cut a block of 256 further into
sub-blocks, whose scales are small integers too. All numbers are little-endian.
"""

import numpy as np

from ref.ops.jit import kernel


def _half(data):
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def _nibbles(data):  # [..., bytes] -> [..., 2, bytes]: low halves, then high halves
    return np.stack([data & 15, data >> 4], axis=-2)


@kernel
def widen_half(low: int, high: int) -> np.float32:
    """Turn the two bytes of a float16 into a float32."""
    # Numba has no float16. Below 0x400 a half is subnormal, an integer times 2^-24; from 0x7C00 on it is no
    # number. Integer arithmetic, so that a processor set to flush subnormals to zero changes nothing.
    magnitude = np.uint32(np.uint32(low) | np.uint32(high & 0x7F) << np.uint32(8))
    if magnitude < np.uint32(0x400):
        value = np.float32(magnitude) * np.float32(2.0**-24)
    else:
        bias = np.uint32(112 << 23) if magnitude < np.uint32(0x7C00) else np.uint32(224 << 23)
        value = np.uint32((magnitude << np.uint32(13)) + bias).view(np.float32)
    return -value if high & 0x80 else value


# The row kernels fill out[block, part, j]. What makes LLVM vectorise them, each worth a factor of 2 to 4: the
# inner loop runs over out.shape[2], never over a constant (a short constant loop is unrolled before the
# vectoriser sees it); a loop writes both halves of its bytes; upper bits are chosen, not shifted by the
# loop's index.


def decode_q8_0(block: np.ndarray) -> np.ndarray:
    """Bytes: scale d 2, q 32 (signed). Value j: d * q[j]."""
    return _half(block[:, :2]) * block[:, 2:].view(np.int8).astype(np.float32)


@kernel
def row_q8_0(row: np.ndarray, out: np.ndarray) -> None:
    """Kernel of `decode_q8_0`, one row."""
    for b in range(row.shape[0]):
        d = widen_half(row[b, 0], row[b, 1])
        for j in range(out.shape[2]):
            out[b, 0, j] = d * np.float32(np.int8(row[b, 2 + j]))


def decode_q4_0(block: np.ndarray) -> np.ndarray:
    """Bytes: d 2, q 16. Value j: d * (low half of q[j] - 8); value 16 + j: the high half."""
    q = _nibbles(block[:, 2:]).reshape(-1, 32)
    return _half(block[:, :2]) * (q.astype(np.float32) - 8)


@kernel
def row_q4_0(row: np.ndarray, out: np.ndarray) -> None:
    """Kernel of `decode_q4_0`, one row."""
    for b in range(row.shape[0]):
        d = widen_half(row[b, 0], row[b, 1])
        for j in range(out.shape[2]):
            q = row[b, 2 + j]
            out[b, 0, j] = d * (np.float32(np.uint8(q & 15)) - np.float32(8))
            out[b, 1, j] = d * (np.float32(np.uint8(q >> 4)) - np.float32(8))


def decode_q5_0(block: np.ndarray) -> np.ndarray:
    """Bytes: d 2, h 4 (bit j: the fifth bit of value j), q 16 as Q4_0. Value: d * (q + 16 h - 16)."""
    fifth = np.unpackbits(block[:, 2:6], axis=1, bitorder="little")
    q = _nibbles(block[:, 6:]).reshape(-1, 32) + 16 * fifth
    return _half(block[:, :2]) * (q.astype(np.float32) - 16)


@kernel
def row_q5_0(row: np.ndarray, out: np.ndarray) -> None:
    """Kernel of `decode_q5_0`, one row."""
    for b in range(row.shape[0]):
        d = widen_half(row[b, 0], row[b, 1])
        first = np.uint32(row[b, 2]) | np.uint32(row[b, 3]) << np.uint32(8)
        second = np.uint32(row[b, 4]) | np.uint32(row[b, 5]) << np.uint32(8)
        for j in range(out.shape[2]):
            q, bit = row[b, 6 + j], np.uint32(1 << j)
            low_offset = np.float32(0) if np.uint32(first) & bit else np.float32(16)
            high_offset = np.float32(0) if np.uint32(second) & bit else np.float32(16)
            out[b, 0, j] = d * (np.float32(np.uint8(q & 15)) - low_offset)
            out[b, 1, j] = d * (np.float32(np.uint8(q >> 4)) - high_offset)


def _scales_k(packed):
    """8 scales and 8 minima of 6 bits in 12 bytes: 0-3 whole, the upper bits of 4-7 in the bytes of 0-3."""
    first, second, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (low & 15) | (first >> 6 << 4)], axis=1)
    minima = np.concatenate([second & 63, (low >> 4) | (second >> 6 << 4)], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _affine_k(block, q):  # q [blocks, 8, 32]: each sub-block has its own scale and minimum
    scales, minima = _scales_k(block[:, 4:16])
    step, floor = _half(block[:, :2]) * scales, _half(block[:, 2:4]) * minima
    return (step[..., None] * q.astype(np.float32) - floor[..., None]).reshape(-1, 256)


@kernel
def _scale_k(row, b, part, d, dmin):
    if part < 4:
        scale, minimum = row[b, 4 + part] & 63, row[b, 8 + part] & 63
    else:
        low = row[b, 8 + part]
        scale = low & 15 | row[b, part] >> 6 << 4
        minimum = low >> 4 | row[b, 4 + part] >> 6 << 4
    return d * np.float32(scale), dmin * np.float32(minimum)


def decode_q4_k(block: np.ndarray) -> np.ndarray:
    """Bytes: d 2, dmin 2, scales s and minima m 12, q 128.

    Sub-block i of 32 values: (d * s[i]) * q - dmin * m[i]; its q: low (i even) or high halves of 32 bytes.
    """
    return _affine_k(block, _nibbles(block[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


@kernel
def row_q4_k(row: np.ndarray, out: np.ndarray) -> None:
    """Kernel of `decode_q4_k`, one row."""
    for b in range(row.shape[0]):
        d, dmin = widen_half(row[b, 0], row[b, 1]), widen_half(row[b, 2], row[b, 3])
        for pair in range(4):
            low_step, low_floor = _scale_k(row, b, 2 * pair, d, dmin)
            high_step, high_floor = _scale_k(row, b, 2 * pair + 1, d, dmin)
            for j in range(out.shape[2]):
                q = row[b, 16 + 32 * pair + j]
                out[b, 2 * pair, j] = low_step * np.float32(np.uint8(q & 15)) - low_floor
                out[b, 2 * pair + 1, j] = high_step * np.float32(np.uint8(q >> 4)) - high_floor


def decode_q5_k(block: np.ndarray) -> np.ndarray:
    """Bytes: as Q4_K, with h 32 before q: bit i of h[j] is the fifth bit of value j of sub-block i."""
    q = _nibbles(block[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    fifth = np.unpackbits(block[:, None, 16:48], axis=1, bitorder="little")
    return _affine_k(block, q + 16 * fifth)


@kernel
def row_q5_k(row: np.ndarray, out: np.ndarray) -> None:
    """Kernel of `decode_q5_k`, one row."""
    for b in range(row.shape[0]):
        d, dmin = widen_half(row[b, 0], row[b, 1]), widen_half(row[b, 2], row[b, 3])
        for pair in range(4):
            low_step, low_floor = _scale_k(row, b, 2 * pair, d, dmin)
            high_step, high_floor = _scale_k(row, b, 2 * pair + 1, d, dmin)
            low_bit, high_bit = np.uint8(1 << 2 * pair), np.uint8(2 << 2 * pair)
            for j in range(out.shape[2]):
                q, fifths = row[b, 48 + 32 * pair + j], row[b, 16 + j]
                low = np.float32(np.uint8(q & 15)) + (np.float32(16) if fifths & low_bit else np.float32(0))
                high = np.float32(np.uint8(q >> 4)) + (np.float32(16) if fifths & high_bit else np.float32(0))
                out[b, 2 * pair, j] = low_step * low - low_floor
                out[b, 2 * pair + 1, j] = high_step * high - high_floor


def decode_q6_k(block: np.ndarray) -> np.ndarray:
    """Bytes: low halves q 128, upper pairs of bits h 64, scales s 16 (signed), d 2.

    Sub-block i of 16 values: (d * s[i]) * (q + 16 h - 32). Each 128 values take 64 bytes of q (32 low, 32
    low, 32 high, 32 high halves) and 32 bytes of h (two bits for each 32 values, the lowest first).
    """
    q = _nibbles(block[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    upper = np.stack([block[:, 128:192].reshape(-1, 2, 32) >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    step = _half(block[:, 208:]) * block[:, 192:208].view(np.int8).astype(np.float32)
    return (step[..., None] * ((q + 16 * upper).reshape(-1, 16, 16).astype(np.float32) - 32)).reshape(-1, 256)


@kernel
def row_q6_k(row: np.ndarray, out: np.ndarray) -> None:
    """Kernel of `decode_q6_k`, one row."""
    for b in range(row.shape[0]):
        d = widen_half(row[b, 208], row[b, 209])
        for turn in range(8):  # (128 values, 32 of its 64 bytes, 16 of those)
            half, pair, side = turn // 4, turn // 2 % 2, turn % 2
            part, shift = 8 * half + 2 * pair + side, np.uint8(2 * pair)
            low_step = d * np.float32(np.int8(row[b, 192 + part]))
            high_step = d * np.float32(np.int8(row[b, 196 + part]))
            # named slices: with all indices in one expression the loop is not vectorised
            q, upper = row[b, 64 * half + 32 * pair + 16 * side :], row[b, 128 + 32 * half + 16 * side :]
            low, high = out[b, part], out[b, part + 4]
            for j in range(low.size):
                h = np.uint8(upper[j] >> shift)
                low[j] = low_step * (np.float32(np.uint8(q[j] & 15 | (h & 3) << 4)) - np.float32(32))
                high[j] = high_step * (np.float32(np.uint8(q[j] >> 4 | h & 48)) - np.float32(32))
