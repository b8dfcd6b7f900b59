"""Mistakes in Pan & Scan: how many strips, how wide, cut along which side, and what becomes of the last one.

Each mutant is written as ports write it, in floats and lists; the rule it departs from is `ref.ops.pan_and_scan`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ref.config import CropConfig
from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs

Boxes = list[list[int]]  # y0, x0, y1, x1 of each crop, half-open


class _Way(NamedTuple):
    """The rule, in parts that people get wrong one at a time."""

    activates: Callable[[int, int, float], bool]  # width, height, min_ratio: are there crops at all
    nearest: Callable[[float], int]  # ratio of the sides: strips wanted
    count: Callable[[int, int, int], int]  # strips wanted, strips of min_crop that fit, max_crops
    step: Callable[[float], int]  # side / strips: size of a strip
    columns: Callable[[int, int], bool]  # width, height: cut into columns, not rows
    fits: Callable[[int, int, int, int], bool]  # size of a strip, of the last one, the other side, min_crop
    clips: Callable[[CropConfig], bool]  # the last strip ends at the edge


def _ratio(width, height):
    return max(width, height) / min(width, height)


_RULE = _Way(
    activates=lambda width, height, least: _ratio(width, height) >= least,
    nearest=lambda ratio: math.floor(ratio + 0.5),
    count=lambda n, fitting, most: min(most, max(2, min(n, fitting))),
    step=math.ceil,
    columns=lambda width, height: width >= height,
    fits=lambda size, last, other, least: min(size, other) >= least,
    clips=lambda crops: crops.past_edge == "clip",
)


def _cut(width: int, height: int, crops: CropConfig, way: _Way) -> Boxes:
    if not way.activates(width, height, crops.min_ratio):
        return []
    n = way.count(way.nearest(_ratio(width, height)), max(width, height) // crops.min_crop, crops.max_crops)
    if n < 1:
        return []
    columns = way.columns(width, height)
    side, other = (width, height) if columns else (height, width)
    size = way.step(side / n)
    spans = [(i * size, (i + 1) * size) for i in range(n)]
    if way.clips(crops):
        spans = [(start, min(stop, side)) for start, stop in spans if start < side]
    if not spans or not way.fits(size, spans[-1][1] - spans[-1][0], other, crops.min_crop):
        return []
    return [[0, start, other, stop] if columns else [start, 0, stop, other] for start, stop in spans]


def _with(**changes):
    """Make a mutant that does one part otherwise."""
    return lambda width, height, crops: _cut(width, height, crops, _RULE._replace(**changes))


def _told(**changes):
    """Make a mutant that has other settings than it is told."""
    return lambda width, height, crops: _cut(width, height, crops._replace(**changes), _RULE)


def _among(place):
    """Make a mutant that counts the whole image as a crop."""

    def run(width: int, height: int, crops: CropConfig) -> Boxes:
        return place(_cut(width, height, crops, _RULE), [[0, 0, height, width]])

    return run


def _swapped(width: int, height: int, crops: CropConfig) -> Boxes:
    return [[x0, y0, x1, y1] for y0, x0, y1, x1 in _cut(width, height, crops, _RULE)]


def _fits_not_asked(size, last, other, least):
    return True


_ANY = Needs(note="any image that is cut")
_OVERRUN = Needs(note="a longer side that is no multiple of the number of strips")
CROP_MUTANTS: list[RuleMutant] = [
    RuleMutant(
        name="crops_threshold_1.5",
        what="crops begin at a ratio of 1.5, whatever was asked for",
        needs=Needs(note="another min_ratio, and sides whose ratio lies between it and 1.5"),
        run=_told(min_ratio=1.5),
    ),
    RuleMutant(
        name="crops_threshold_1.2",
        what="crops begin at a ratio of 1.2, whatever was asked for",
        needs=Needs(note="another min_ratio, and sides whose ratio lies between it and 1.2"),
        run=_told(min_ratio=1.2),
    ),
    RuleMutant(
        name="crops_ratio_exclusive",
        what="the ratio itself does not activate: <= in the place of <",
        needs=Needs(note="sides whose ratio is min_ratio exactly, as 1200 x 1000"),
        run=_with(activates=lambda width, height, least: _ratio(width, height) > least),
    ),
    RuleMutant(
        name="crops_portrait_never",
        what="the ratio is always width / height, so portraits are not cut",
        needs=Needs(note="a portrait that is cut"),
        run=_with(activates=lambda width, height, least: width / height >= least),
    ),
    # how many
    RuleMutant(
        name="crops_half_even",
        what="the ratio is rounded half to even, as Python's and NumPy's round do: 2.5 makes 2",
        needs=Needs(note="a ratio half-way above an even number, as 2500 x 1000"),
        run=_with(nearest=round),
    ),
    RuleMutant(
        name="crops_ratio_rounded_down",
        what="the ratio is cut off instead of rounded: 2.5 makes 2",
        needs=Needs(note="a ratio of 2.5 or more, with a fraction of at least a half"),
        run=_with(nearest=math.floor),
    ),
    RuleMutant(
        name="crops_ratio_rounded_up",
        what="the ratio is rounded up: 2.1 makes 3",
        needs=Needs(note="a ratio above 2, with a fraction below a half"),
        run=_with(nearest=math.ceil),
    ),
    RuleMutant(
        name="crops_clamp_order",
        what="at least 2 is asked first, and then floor(side / min_crop) allows only 1",
        needs=Needs(note="a longer side below 2 min_crop, as 511 x 400"),
        run=_with(count=lambda n, fitting, most: min(most, max(2, n), fitting)),
    ),
    RuleMutant(
        name="crops_fitting_ignored",
        what="the number of strips is not limited to floor(side / min_crop)",
        needs=Needs(
            note="a longer side whose floor(side / min_crop) is at least 2 and below the rounded ratio, as 767 x 256"
        ),
        run=_with(count=lambda n, fitting, most: min(most, max(2, n))),
    ),
    RuleMutant(
        name="crops_max_ignored",
        what="there may be more than max_crops",
        needs=Needs(note="a ratio above max_crops, as 3000 x 500"),
        run=_with(count=lambda n, fitting, most: max(2, min(n, fitting))),
    ),
    RuleMutant(
        name="crops_min_on_last",
        what="min_crop is asked of the last strip too, which may be smaller",
        needs=Needs(note="a last strip below min_crop, as of 511 x 400"),
        run=_with(fits=lambda size, last, other, least: min(size, last, other) >= least),
    ),
    RuleMutant(
        name="crops_min_unchecked",
        what="strips are made however small they and the shorter side are",
        needs=Needs(note="a shorter side or a strip below min_crop, as 600 x 255"),
        run=_with(fits=_fits_not_asked),
    ),
    # where
    RuleMutant(
        name="crops_size_rounded_down",
        what="a strip is floor(side / n), so that the far edge is lost",
        needs=_OVERRUN,
        run=_with(step=math.floor),
    ),
    RuleMutant(
        name="crops_shorter_side_cut",
        what="the shorter side is cut: portraits and landscapes are swapped",
        needs=_ANY,
        run=_with(columns=lambda width, height: width < height),
    ),
    RuleMutant(
        name="crops_square_as_portrait",
        what="a square is cut into rows: > in the place of >=",
        needs=Needs(note="a square, and min_ratio at most 1"),
        run=_with(columns=lambda width, height: width > height),
    ),
    RuleMutant(
        name="crops_xy_swapped",
        what="boxes are x0, y0, x1, y1",
        needs=_ANY,
        run=_swapped,
    ),
    RuleMutant(
        name="crops_past_edge",
        what="the last strip keeps its size and is filled with black",
        needs=Needs(note="past_edge clip, and a longer side that is no multiple of the number of strips"),
        run=_told(past_edge="pad"),
    ),
    RuleMutant(
        name="crops_clipped",
        what="the last strip is clipped at the edge",
        needs=Needs(note="past_edge pad, and a longer side that is no multiple of the number of strips"),
        run=_told(past_edge="clip"),
    ),
    # the whole image
    RuleMutant(
        name="crops_whole_first",
        what="the whole image is the first of the crops, so that it is seen twice",
        needs=_ANY,
        run=_among(lambda boxes, whole: whole + boxes if boxes else boxes),
    ),
    RuleMutant(
        name="crops_whole_last",
        what="the whole image comes after its crops",
        needs=_ANY,
        run=_among(lambda boxes, whole: boxes + whole if boxes else boxes),
    ),
    RuleMutant(
        name="crops_whole_when_none",
        what="where there are no crops, the whole image is the only one",
        needs=Needs(image="that is not cut"),
        run=_among(lambda boxes, whole: boxes or whole),
    ),
]
