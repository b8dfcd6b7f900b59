"""Mistakes in number formats: codes that are made wrongly, and codes that are read wrongly.

Each mutant is written as ports write it: from a matrix to (codes as they lie in the file, the values that are read
back). The encoders they depart from are in `ref.quant.encode`, the layouts in `ref.ops.blocks` and `ref.ops.codes`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ref.errors import wanted
from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.ops.codes import decode_sfp8

Coded = tuple[np.ndarray, np.ndarray]  # [O, bytes] uint8, [O, I] float32
LEAST = np.float32(1e-6)  # of a channel's largest magnitude, so that its scale is finite


def _inverse(d):
    with np.errstate(divide="ignore"):
        return np.where(d == 0, np.float32(0), np.float32(1) / d)


def _bytes_of_half(d):
    return d.astype("<f2").view(np.uint8).reshape(len(d), 2)


def _q4_0(
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


def _as_half(d):
    return d.astype(np.float16).astype(np.float32)


def _away(x):
    return np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x)


def _q8_0(x, _=True, *, bound=127, turn=_away, held: Any = np.float16, biased=False) -> Coded:
    """Eight bits in blocks of 32."""
    blocks = x.reshape(-1, 32)
    d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(bound)
    q = np.clip(turn(blocks * _inverse(d)), -128, 127).astype(np.int8).view(np.uint8)
    data = np.concatenate([_bytes_of_half(d), q], axis=1)
    signed = q.astype(np.float32) - 128 if biased else q.view(np.int8).astype(np.float32)
    return data.reshape(len(x), -1), (d.astype(held).astype(np.float32) * signed).reshape(x.shape)


def _int4(x, _=True, *, bound=7, low=-8, axis: Any = 1, turn: Any = np.rint, swapped=False, offset=8) -> Coded:
    """Four bits and one scale a channel."""
    most = np.abs(x).max(axis=axis, keepdims=True)
    scale = np.float32(bound) * np.where(most == 0, np.float32(1 / bound), _inverse(most))
    q = np.clip(turn(x * scale), low, 7).astype(np.int8)
    codes = (q + 8).astype(np.uint8).reshape(len(x), -1, 2)
    halves = codes[:, :, ::-1] if swapped else codes
    read = halves.reshape(x.shape).astype(np.float32) - np.float32(offset)
    return codes[:, :, 0] | codes[:, :, 1] << 4, read / scale


def _sfp8(
    x, scaled=True, *, cut=lambda x: x, least=1, away=False, zero=0, wide=False, read=decode_sfp8, axis: Any = 1
) -> Coded:
    """Switching floating point and one scale a channel."""
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


def _cut_to_bfloat16(x):
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _shifted(codes):
    """Read the large codes one power of two too small."""
    return np.where((codes & 0x7F) >= 64, np.float32(0.5), np.float32(1)) * decode_sfp8(codes)


def _three_bits(codes):
    """Read every code with three bits of mantissa."""
    c = (codes & 0x7F).astype(np.float32)
    value = np.where(c > 0, np.exp2(np.floor(c / 8) - 15) * (1 + (c % 8) / 8), 0)
    return (np.where(codes & 0x80, -1, 1) * value).astype(np.float32)


_NEGATIVE, _ANY = Needs(note="a block whose largest magnitude is negative"), Needs(note="any weights")
_TIE = Needs(note="a value midway between two codes")

FORMAT_MUTANTS: dict[str, list[RuleMutant]] = {
    "Q4_0": [
        RuleMutant(
            name="q4_0_nibbles_in_pairs",
            what="low and high halves of a byte are neighbours, not values j and 16 + j",
            needs=_ANY,
            run=partial(_q4_0, pairs=True),
        ),
        RuleMutant(
            name="q4_0_offset_missing",
            what="8 is not taken off the codes",
            needs=_ANY,
            run=partial(_q4_0, offset=0),
        ),
        RuleMutant(
            name="q4_0_magnitude",
            what="the scale is that of the largest magnitude without its sign",
            needs=_NEGATIVE,
            run=partial(_q4_0, signed=False),
        ),
        RuleMutant(
            name="q4_0_scale_unrounded",
            what="the scale is read as float32, before it became float16",
            needs=Needs(note="a scale that float16 does not hold"),
            run=partial(_q4_0, held=np.float32),
        ),
        RuleMutant(
            name="q4_0_by_rounded_scale",
            what="values are divided by the scale as float16 holds it",
            needs=Needs(note="a value near a boundary"),
            run=partial(_q4_0, inverse=_as_half),
        ),
        RuleMutant(
            name="q4_0_half_even",
            what="codes are rounded half to even",
            needs=_TIE,
            run=partial(_q4_0, turn=np.rint),
        ),
    ],
    "Q8_0": [
        RuleMutant(
            name="q8_0_half_even",
            what="codes are rounded half to even",
            needs=_TIE,
            run=partial(_q8_0, turn=np.rint),
        ),
        RuleMutant(
            name="q8_0_of_128",
            what="the scale is max / 128",
            needs=_ANY,
            run=partial(_q8_0, bound=128),
        ),
        RuleMutant(
            name="q8_0_scale_unrounded",
            what="the scale is read as float32, before it became float16",
            needs=Needs(note="a scale that float16 does not hold"),
            run=partial(_q8_0, held=np.float32),
        ),
        RuleMutant(
            name="q8_0_biased",
            what="bytes are read as unsigned less 128",
            needs=_ANY,
            run=partial(_q8_0, biased=True),
        ),
    ],
    "INT4": [
        RuleMutant(
            name="int4_of_8",
            what="the scale is 8 / max, and what becomes 8 is clipped",
            needs=_ANY,
            run=partial(_int4, bound=8),
        ),
        RuleMutant(
            name="int4_clip_at_6",
            what="codes are clipped to -6 and above",
            needs=Needs(note="a channel whose largest magnitude is negative"),
            run=partial(_int4, low=-6),
        ),
        RuleMutant(
            name="int4_wrong_axis",
            what="the scale is that of an input, not of an output",
            needs=_ANY,
            run=partial(_int4, axis=0),
        ),
        RuleMutant(
            name="int4_one_scale",
            what="one scale for the whole matrix",
            needs=Needs(note="channels of other sizes"),
            run=partial(_int4, axis=(0, 1)),
        ),
        RuleMutant(
            name="int4_half_away",
            what="codes are rounded half away from zero",
            needs=_TIE,
            run=partial(_int4, turn=_away),
        ),
        RuleMutant(
            name="int4_truncated",
            what="codes are cut off, not rounded",
            needs=_ANY,
            run=partial(_int4, turn=np.trunc),
        ),
        RuleMutant(
            name="int4_nibbles_swapped",
            what="the high half of a byte is read first",
            needs=_ANY,
            run=partial(_int4, swapped=True),
        ),
        RuleMutant(
            name="int4_bias_7",
            what="7 is taken off the codes, not 8",
            needs=_ANY,
            run=partial(_int4, offset=7),
        ),
    ],
    "SFP8": [
        RuleMutant(
            name="sfp8_bias",
            what="codes from 64 on are read one power of two too small",
            needs=_ANY,
            run=partial(_sfp8, read=_shifted),
        ),
        RuleMutant(
            name="sfp8_not_switched",
            what="all codes are read with three bits of mantissa",
            needs=Needs(note="a value below 2^-7 of 1.875"),
            run=partial(_sfp8, read=_three_bits),
        ),
        RuleMutant(
            name="sfp8_negative_zero",
            what="what is negative and too small becomes 0x80",
            needs=Needs(note="a negative value below 1.875 * 2^-24"),
            run=partial(_sfp8, zero=1),
        ),
        RuleMutant(
            name="sfp8_smallest_lost",
            what="2^-23 becomes code 0, which is zero",
            needs=Needs(note="a value that rounds to 2^-23"),
            run=partial(_sfp8, least=0),
        ),
        RuleMutant(
            name="sfp8_half_away",
            what="mantissas are rounded half away from zero",
            needs=_TIE,
            run=partial(_sfp8, away=True),
        ),
        RuleMutant(
            name="sfp8_cut_first",
            what="float32 is cut to bfloat16 before it is rounded",
            needs=Needs(note="a value just above midway between two codes"),
            run=partial(_sfp8, cut=_cut_to_bfloat16),
        ),
        RuleMutant(
            name="sfp8_too_large",
            what="values are scaled to 2, above the largest code",
            needs=_ANY,
            run=partial(_sfp8, cut=lambda x: x * np.float32(2 / 1.875), wide=True),
        ),
        RuleMutant(
            name="sfp8_wrong_axis",
            what="the scale is that of an input, not of an output",
            needs=_ANY,
            run=partial(_sfp8, axis=0),
        ),
    ],
}
RULES: dict[str, Callable[..., Coded]] = {"Q4_0": _q4_0, "Q8_0": _q8_0, "INT4": _int4, "SFP8": _sfp8}


def format_mistakes(kind: str, weight, codes=None, values=None, scaled: bool = True) -> list[RuleMutant]:
    """Name the mistakes that make just these codes or values of a weight.

    Args:
        kind: a key of FORMAT_MUTANTS.
        weight: [O, I] float32.
        codes: [O, bytes] uint8 that a port wrote; None does not look at them.
        values: [O, I] float32 that a port read back.
        scaled: of SFP8: each row is first brought to 1.875.

    Returns:
        Every mutant that gives what is given; none where it is right.

    Raises:
        BadInput: no such format.

    Source: `FORMAT_MUTANTS`.
    """
    if kind not in FORMAT_MUTANTS:
        raise wanted("format", "format_mistakes", f"one of {', '.join(FORMAT_MUTANTS)}", kind)

    def fits(made: Coded) -> bool:
        pairs = ((codes, made[0]), (values, made[1]))
        return all(given is None or np.array_equal(given, one) for given, one in pairs)

    weight = np.asarray(weight, np.float32)
    if fits(RULES[kind](weight, scaled)):
        return []
    return [mutant for mutant in FORMAT_MUTANTS[kind] if fits(mutant.run(weight, scaled))]
