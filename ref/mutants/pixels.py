"""Mistakes in what the vision tower is given: the filter of the resize, the shape, the scale, the order of channels.

Each mutant makes the pixels of one whole image; the rule it departs from is `ref.prompt.images.preprocess`. Filters
that Pillow has are Pillow's, except its bilinear one: `resize_pillow_jit` does not depend on which Pillow is installed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.mutants.pixel_filters import (
    centre_cropped,
    columns_first,
    corners,
    float_first,
    in_linear_light,
    letterboxed,
    nearest_corner,
    no_antialias,
    once,
    pillow_filter,
    to_levels,
    transposed,
    two_pixels,
)
from ref.ops.resize import resize_float_jit, resize_pillow_jit
from ref.prompt.images import scale_floats, scale_levels

Sides = int | tuple[int, int]  # of the square wanted, or its height and width

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of red, green, blue
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def _scaled(levels: np.ndarray, factor=1 / 255, mean: Any = 0.5, std: Any = 0.5) -> np.ndarray:
    unit = (levels * factor).astype(np.float32)
    return (unit - np.float32(mean)) / np.float32(std)


def _linear(factor: float, offset: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda levels: (levels * factor + offset).astype(np.float32)


def _made(resize: Callable = resize_pillow_jit, scale: Callable = scale_levels) -> Callable[..., np.ndarray]:
    """Make a mutant of its two steps: resize(image, height, width), and scale(levels)."""

    def run(image: np.ndarray, size: Sides) -> np.ndarray:
        height, width = (size, size) if isinstance(size, int) else size
        return np.ascontiguousarray(scale(resize(image, height, width)).transpose(2, 0, 1), np.float32)

    return run


def _as_linear_light(levels: np.ndarray) -> np.ndarray:
    unit = levels / 255
    return _scaled(np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4), 1.0)


def _flattened(image: np.ndarray, size: Sides) -> np.ndarray:
    pixels = _made()(image, size)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)).reshape(pixels.shape)


_RESIZED = Needs(note="a side that is not the wanted one, and any image but one of a single level")
PIXEL_MUTANTS: list[RuleMutant] = [
    # scale
    RuleMutant(
        name="pixels_bgr",
        what="red and blue are swapped, as OpenCV reads files",
        needs=Needs(image="in which red and blue differ"),
        run=_made(scale=lambda levels: scale_levels(levels[..., ::-1])),
    ),
    RuleMutant(
        name="pixels_range_0_1",
        what="levels are divided by 255 and not moved to [-1, 1]: mean and deviation missing",
        needs=Needs(note="a level that is not white"),
        run=_made(scale=_linear(1 / 255, 0)),
    ),
    RuleMutant(
        name="pixels_scaled_twice",
        what="levels are divided by 255 twice and lie just above -1: all is black",
        needs=Needs(note="a level above 0"),
        run=_made(scale=lambda levels: _scaled(levels, 1 / 255 / 255)),
    ),
    RuleMutant(
        name="pixels_not_rescaled",
        what="mean and deviation of 0.5 are applied to levels that were not divided by 255",
        needs=Needs(note="a level above 0"),
        run=_made(scale=lambda levels: _scaled(levels, 1.0)),
    ),
    RuleMutant(
        name="pixels_levels",
        what="the levels 0 to 255 as they are: neither rescaled nor normalised",
        needs=Needs(image="any"),
        run=_made(scale=_linear(1, 0)),
    ),
    RuleMutant(
        name="pixels_normalised_twice",
        what="mean and deviation are applied twice: [-3, 1]",
        needs=Needs(note="a level that is not white"),
        run=_made(scale=lambda levels: _scaled(scale_levels(levels), 1.0)),
    ),
    RuleMutant(
        name="pixels_range_-1_-0.5",
        what="scale is 0.5 / 255 and offset -1, so that pixels lie in [-1, -0.5]",
        needs=Needs(note="a level above 0"),
        run=_made(scale=_linear(0.5 / 255, -1)),
    ),
    RuleMutant(
        name="pixels_imagenet",
        what="mean and deviation are ImageNet's",
        needs=Needs(image="any"),
        run=_made(scale=lambda levels: _scaled(levels, 1 / 255, *IMAGENET)),
    ),
    RuleMutant(
        name="pixels_clip_mean",
        what="mean and deviation are CLIP's",
        needs=Needs(image="any"),
        run=_made(scale=lambda levels: _scaled(levels, 1 / 255, *CLIP)),
    ),
    RuleMutant(
        name="pixels_linear_light",
        what="pixels are linear light: the curve of sRGB was taken off and not put back",
        needs=Needs(note="a level that is neither black nor white"),
        run=_made(scale=_as_linear_light),
    ),
    # filter
    RuleMutant(
        name="pixels_nearest",
        what="resized to the nearest pixel",
        needs=_RESIZED,
        run=_made(pillow_filter(Image.Resampling.NEAREST)),
    ),
    RuleMutant(
        name="pixels_nearest_corner",
        what="the pixel at floor(o * inputs / outputs), half a step up and to the left",
        needs=_RESIZED,
        run=_made(nearest_corner),
    ),
    RuleMutant(
        name="pixels_no_antialias",
        what="bilinear between two pixels, without antialias where the image shrinks",
        needs=Needs(note="a side more than the wanted one, and any image but one of a single level"),
        run=_made(no_antialias),
    ),
    RuleMutant(
        name="pixels_align_corners",
        what="corner pixels are put onto corner pixels, without antialias",
        needs=_RESIZED,
        run=_made(two_pixels(corners)),
    ),
    RuleMutant(
        name="pixels_bicubic",
        what="resized with the bicubic filter",
        needs=_RESIZED,
        run=_made(pillow_filter(Image.Resampling.BICUBIC)),
    ),
    RuleMutant(
        name="pixels_lanczos",
        what="resized with the Lanczos filter",
        needs=_RESIZED,
        run=_made(pillow_filter(Image.Resampling.LANCZOS)),
    ),
    RuleMutant(
        name="pixels_box",
        what="averaged over equal boxes",
        needs=_RESIZED,
        run=_made(pillow_filter(Image.Resampling.BOX)),
    ),
    RuleMutant(
        name="pixels_resized_in_linear_light",
        what="the resize averages linear light, and the curve of sRGB is put back",
        needs=_RESIZED,
        run=_made(in_linear_light),
    ),
    # rounding and order
    RuleMutant(
        name="pixels_levels_cut_off",
        what="the resize rounds levels down",
        needs=_RESIZED,
        run=_made(once(lambda values: values.astype(np.uint8))),
    ),
    RuleMutant(
        name="pixels_rounded_once",
        what="a variant: levels are rounded once, at the end, much as torchvision does",
        needs=Needs(note="both sides resized, and enough pixels that a rounding shows"),
        run=_made(once(to_levels)),
    ),
    RuleMutant(
        name="pixels_columns_first",
        what="a variant: columns before rows in portraits too, as Pillow up to 12.1",
        needs=Needs(note="a height that shrinks by more than twice what the width does"),
        run=_made(columns_first),
    ),
    RuleMutant(
        name="pixels_float_resize",
        what="a variant: the resize does not round to levels, as in google-deepmind/gemma",
        needs=Needs(note=f"{_RESIZED.note}; without, some levels differ in the last bit"),
        run=_made(resize_float_jit, scale_floats),
    ),
    RuleMutant(
        name="pixels_normalised_first",
        what="scaled to [-1, 1] first and then resized, so that nothing rounds to levels",
        needs=_RESIZED,
        run=_made(float_first, lambda values: values),
    ),
    # shape
    RuleMutant(
        name="pixels_letterbox",
        what="the aspect is kept, and the rest of the square is black",
        needs=Needs(image="that is not square"),
        run=_made(letterboxed),
    ),
    RuleMutant(
        name="pixels_centre_crop",
        what="the square in the middle is cut out, and the rest is lost",
        needs=Needs(image="that is not square"),
        run=_made(centre_cropped),
    ),
    RuleMutant(
        name="pixels_xy_swapped",
        what="x and y are swapped: the image lies on its side, mirrored",
        needs=Needs(image="unlike its mirror image along the diagonal"),
        run=_made(transposed),
    ),
    RuleMutant(
        name="pixels_hwc_as_chw",
        what="rows of red, green and blue are read as three planes, without a transposition",
        needs=Needs(note="more than one pixel, and colours or levels that differ"),
        run=_flattened,
    ),
]
