"""Coders of number formats as ports write them, in parts that people get wrong one at a time.

Each goes from a matrix to (codes as they lie in the file, the values that are read back).
"""

from typing import Any

import numpy as np

from ref.ops.codes import decode_sfp8

Coded = tuple[np.ndarray, np.ndarray]  # [O, bytes] uint8, [O, I] float32
LEAST = np.float32(1e-6)  # of a channel's largest magnitude, so that its scale is finite


def _inverse(d):
    with np.errstate(divide="ignore"):
        return np.where(d == 0, np.float32(0), np.float32(1) / d)


def _bytes_of_half(d):
    return d.astype("<f2").view(np.uint8).reshape(len(d), 2)


def q4_0(
    x,
    _=True,
    *,
    signed=True,
    offset=8,
    pairs=False,
    held: Any = np.float16,
    inverse=lambda d: d,
    turn=lambda q: np.trunc(q + np.float32(0.5)),
) -> Coded:
    """Four bits in blocks of 32, in parts that people get wrong one at a time."""
    blocks = x.reshape(-1, 32)
    most = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    d = (most if signed else np.abs(most)) / np.float32(-8)
    q = np.clip(turn(blocks * _inverse(inverse(d)) + np.float32(8)), 0, 15).astype(np.uint8)
    data = np.concatenate([_bytes_of_half(d), q[:, :16] | q[:, 16:] << 4], axis=1)
    read = np.stack([q[:, :16], q[:, 16:]], axis=2).reshape(-1, 32) if pairs else q
    values = d.astype(held).astype(np.float32) * (read.astype(np.float32) - np.float32(offset))
    return data.reshape(len(x), -1), values.reshape(x.shape)


def as_half(d):
    """Return a scale as float16 holds it."""
    return d.astype(np.float16).astype(np.float32)


def half_away(x):
    """Round half away from zero."""
    return np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x)


def q8_0(x, _=True, *, bound=127, turn=half_away, held: Any = np.float16, biased=False) -> Coded:
    """Eight bits in blocks of 32."""
    blocks = x.reshape(-1, 32)
    d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(bound)
    q = np.clip(turn(blocks * _inverse(d)), -128, 127).astype(np.int8).view(np.uint8)
    data = np.concatenate([_bytes_of_half(d), q], axis=1)
    signed = q.astype(np.float32) - 128 if biased else q.view(np.int8).astype(np.float32)
    return data.reshape(len(x), -1), (d.astype(held).astype(np.float32) * signed).reshape(x.shape)


def int4(x, _=True, *, bound=7, low=-8, axis: Any = 1, turn: Any = np.rint, swapped=False, offset=8) -> Coded:
    """Four bits and one scale per channel."""
    most = np.abs(x).max(axis=axis, keepdims=True)
    scale = np.float32(bound) * np.where(most == 0, np.float32(1 / bound), _inverse(most))
    q = np.clip(turn(x * scale), low, 7).astype(np.int8)
    codes = (q + 8).astype(np.uint8).reshape(len(x), -1, 2)
    halves = codes[:, :, ::-1] if swapped else codes
    read = halves.reshape(x.shape).astype(np.float32) - np.float32(offset)
    return codes[:, :, 0] | codes[:, :, 1] << 4, read / scale


def sfp8(
    x, scaled=True, *, cut=lambda x: x, least=1, away=False, zero=0, wide=False, read=decode_sfp8, axis: Any = 1
) -> Coded:
    """Switching floating point and one scale per channel."""
    most = np.maximum(np.abs(x).max(axis=axis, keepdims=True), LEAST)
    scale = np.float32(1.875) / most if scaled else np.ones_like(most)
    x = np.clip(x * scale, -1.875, 1.875) if axis == 1 else x * scale
    scaled = cut(x)
    size = np.abs(scaled).view(np.uint32)
    shift = np.where(np.abs(scaled) >= 1.9375 * 2.0**-8, 20, 21).astype(np.uint32)
    half = (np.uint32(1) << (shift - np.uint32(1))) - np.uint32(0 if away else 1)
    rounded = ((size + half + (0 if away else (size >> shift) & np.uint32(1))) >> shift).astype(np.int64)
    small, large = np.maximum(rounded - (104 << 2), -1), 64 + rounded - (120 << 3)
    code = np.where(np.abs(scaled) >= 1.875 * 2.0**-8, np.where(shift == 20, large, 64), small)
    code = np.where(small == 0, np.where(shift == 21, least, code), np.maximum(code, 0)) & (0xFF if wide else 0x7F)
    negative = np.signbit(scaled) & ((code > 0) | (zero > 0))
    data = (code | np.where(negative, 0x80, 0)).astype(np.uint8)
    return data, read(data) / scale


def cut_to_bfloat16(x):
    """Cut float32 off to bfloat16, without rounding."""
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def shifted(codes):
    """Read the large codes one power of two too small."""
    return np.where((codes & 0x7F) >= 64, np.float32(0.5), np.float32(1)) * decode_sfp8(codes)


def three_bits(codes):
    """Read every code with three bits of mantissa."""
    c = (codes & 0x7F).astype(np.float32)
    value = np.where(c > 0, np.exp2(np.floor(c / 8) - 15) * (1 + (c % 8) / 8), 0)
    return (np.where(codes & 0x80, -1, 1) * value).astype(np.float32)
