"""Mistakes in number formats: codes that are made wrongly, and codes that are read wrongly.

The encoders they depart from are in `ref.quant.encode`, the layouts in `ref.ops.blocks` and `ref.ops.codes`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from ref.errors import wanted
from ref.mutants.base import RuleMutant
from ref.mutants.format_coders import (
    Coded,
    as_half,
    cut_to_bfloat16,
    half_away,
    int4,
    q4_0,
    q8_0,
    sfp8,
    shifted,
    three_bits,
)
from ref.mutants.needs import Needs

_NEGATIVE, _ANY = Needs(note="a block whose largest magnitude is negative"), Needs(note="any weights")
_TIE = Needs(note="a value midway between two codes")

FORMAT_MUTANTS: dict[str, list[RuleMutant]] = {
    "Q4_0": [
        RuleMutant(
            name="q4_0_nibbles_in_pairs",
            what="low and high halves of a byte are neighbours, not values j and 16 + j",
            needs=_ANY,
            run=partial(q4_0, pairs=True),
        ),
        RuleMutant(
            name="q4_0_offset_missing",
            what="8 is not taken off the codes",
            needs=_ANY,
            run=partial(q4_0, offset=0),
        ),
        RuleMutant(
            name="q4_0_magnitude",
            what="the scale is that of the largest magnitude without its sign",
            needs=_NEGATIVE,
            run=partial(q4_0, signed=False),
        ),
        RuleMutant(
            name="q4_0_scale_unrounded",
            what="the scale is read as float32, before it became float16",
            needs=Needs(note="a scale that float16 does not hold"),
            run=partial(q4_0, held=np.float32),
        ),
        RuleMutant(
            name="q4_0_by_rounded_scale",
            what="values are divided by the scale as float16 holds it",
            needs=Needs(note="a value near a boundary"),
            run=partial(q4_0, inverse=as_half),
        ),
        RuleMutant(
            name="q4_0_half_even",
            what="codes are rounded half to even",
            needs=_TIE,
            run=partial(q4_0, turn=np.rint),
        ),
    ],
    "Q8_0": [
        RuleMutant(
            name="q8_0_half_even",
            what="codes are rounded half to even",
            needs=_TIE,
            run=partial(q8_0, turn=np.rint),
        ),
        RuleMutant(
            name="q8_0_of_128",
            what="the scale is max / 128",
            needs=_ANY,
            run=partial(q8_0, bound=128),
        ),
        RuleMutant(
            name="q8_0_scale_unrounded",
            what="the scale is read as float32, before it became float16",
            needs=Needs(note="a scale that float16 does not hold"),
            run=partial(q8_0, held=np.float32),
        ),
        RuleMutant(
            name="q8_0_biased",
            what="bytes are read as unsigned less 128",
            needs=_ANY,
            run=partial(q8_0, biased=True),
        ),
    ],
    "INT4": [
        RuleMutant(
            name="int4_of_8",
            what="the scale is 8 / max, and what becomes 8 is clipped",
            needs=_ANY,
            run=partial(int4, bound=8),
        ),
        RuleMutant(
            name="int4_clip_at_6",
            what="codes are clipped to -6 and above",
            needs=Needs(note="a channel whose largest magnitude is negative"),
            run=partial(int4, low=-6),
        ),
        RuleMutant(
            name="int4_wrong_axis",
            what="the scale is that of an input, not of an output",
            needs=_ANY,
            run=partial(int4, axis=0),
        ),
        RuleMutant(
            name="int4_one_scale",
            what="one scale for the whole matrix",
            needs=Needs(note="channels of other sizes"),
            run=partial(int4, axis=(0, 1)),
        ),
        RuleMutant(
            name="int4_half_away",
            what="codes are rounded half away from zero",
            needs=_TIE,
            run=partial(int4, turn=half_away),
        ),
        RuleMutant(
            name="int4_truncated",
            what="codes are cut off, not rounded",
            needs=_ANY,
            run=partial(int4, turn=np.trunc),
        ),
        RuleMutant(
            name="int4_nibbles_swapped",
            what="the high half of a byte is read first",
            needs=_ANY,
            run=partial(int4, swapped=True),
        ),
        RuleMutant(
            name="int4_bias_7",
            what="7 is taken off the codes, not 8",
            needs=_ANY,
            run=partial(int4, offset=7),
        ),
    ],
    "SFP8": [
        RuleMutant(
            name="sfp8_bias",
            what="codes from 64 on are read one power of two too small",
            needs=_ANY,
            run=partial(sfp8, read=shifted),
        ),
        RuleMutant(
            name="sfp8_not_switched",
            what="all codes are read with three bits of mantissa",
            needs=Needs(note="a value below 2^-7 of 1.875"),
            run=partial(sfp8, read=three_bits),
        ),
        RuleMutant(
            name="sfp8_negative_zero",
            what="what is negative and too small becomes 0x80",
            needs=Needs(note="a negative value below 1.875 * 2^-24"),
            run=partial(sfp8, zero=1),
        ),
        RuleMutant(
            name="sfp8_smallest_lost",
            what="2^-23 becomes code 0, which is zero",
            needs=Needs(note="a value that rounds to 2^-23"),
            run=partial(sfp8, least=0),
        ),
        RuleMutant(
            name="sfp8_half_away",
            what="mantissas are rounded half away from zero",
            needs=_TIE,
            run=partial(sfp8, away=True),
        ),
        RuleMutant(
            name="sfp8_cut_first",
            what="float32 is cut to bfloat16 before it is rounded",
            needs=Needs(note="a value just above midway between two codes"),
            run=partial(sfp8, cut=cut_to_bfloat16),
        ),
        RuleMutant(
            name="sfp8_too_large",
            what="values are scaled to 2, above the largest code",
            needs=_ANY,
            run=partial(sfp8, cut=lambda x: x * np.float32(2 / 1.875), wide=True),
        ),
        RuleMutant(
            name="sfp8_wrong_axis",
            what="the scale is that of an input, not of an output",
            needs=_ANY,
            run=partial(sfp8, axis=0),
        ),
    ],
}
RULES: dict[str, Callable[..., Coded]] = {"Q4_0": q4_0, "Q8_0": q8_0, "INT4": int4, "SFP8": sfp8}


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
