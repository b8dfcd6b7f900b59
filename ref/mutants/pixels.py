"""Mistakes in what the vision tower is given: the filter of the resize, the shape, the scale, the order of channels.

Each mutant makes the pixels of one whole image; the rule it departs from is `ref.prompt.images.preprocess`. Filters
that Pillow has are Pillow's, except its bilinear one: `resize_pillow_jit` does not depend on which Pillow is installed.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ref.mutants.base import RuleMutant
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


def _pillow(kind: Image.Resampling) -> Callable:
    return lambda image, height, width: np.asarray(Image.fromarray(image).resize((width, height), kind))


def _levels(values: np.ndarray) -> np.ndarray:
    """Round to the nearest level, halves up."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _two_pixels(places: Callable[[int, int], np.ndarray]) -> Callable:
    """Bilinear between the two nearest input pixels, however much the image shrinks."""

    def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
        values = image.astype(np.float64)
        for axis, side in enumerate((height, width)):
            last = values.shape[axis] - 1
            place = np.clip(places(last + 1, side), 0, last)
            low = place.astype(np.int64)
            part = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            values = values.take(low, axis) * (1 - part) + values.take(np.minimum(low + 1, last), axis) * part
        return _levels(values)

    return resize


def _centres(inputs: int, outputs: int) -> np.ndarray:
    return (np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5


def _corners(inputs: int, outputs: int) -> np.ndarray:
    return np.arange(outputs) * ((inputs - 1) / max(outputs - 1, 1))


def _nearest_corner(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = (np.arange(side) * old // side for side, old in zip((height, width), image.shape[:2], strict=True))
    return image[rows[:, None], columns]


def _no_antialias(image: np.ndarray, height: int, width: int) -> np.ndarray:
    shrinks = height < image.shape[0] or width < image.shape[1]  # else the filter is the right one
    return (_two_pixels(_centres) if shrinks else resize_pillow_jit)(image, height, width)


def _letterboxed(image: np.ndarray, height: int, width: int) -> np.ndarray:
    by = min(height / image.shape[0], width / image.shape[1])
    Y, X = (min(side, math.ceil(old * by)) for side, old in zip((height, width), image.shape[:2], strict=True))
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - Y) // 2, (width - X) // 2
    out[top : top + Y, left : left + X] = resize_pillow_jit(image, Y, X)
    return out


def _centre_cropped(image: np.ndarray, height: int, width: int) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return resize_pillow_jit(image[top : top + side, left : left + side], height, width)


def _columns_first(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return resize_pillow_jit(image, height, width, "columns")


def _once(rounding: Callable) -> Callable:
    return lambda image, height, width: rounding(resize_float_jit(image, height, width))


def _in_linear_light(image: np.ndarray, height: int, width: int) -> np.ndarray:
    unit = image / 255
    light = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    light = resize_float_jit(light, height, width)
    return _levels(255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055))


def _as_linear_light(levels: np.ndarray) -> np.ndarray:
    unit = levels / 255
    return _scaled(np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4), 1.0)


def _transposed(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return resize_pillow_jit(image.swapaxes(0, 1), height, width)


def _flattened(image: np.ndarray, size: Sides) -> np.ndarray:
    pixels = _made()(image, size)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)).reshape(pixels.shape)


def _float_first(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return resize_float_jit(scale_levels(image), height, width)


S91 = "GEMMA3_SPEC 9.1 (37)"
VECTORS = "golden/vectors/resize.json"
_ANY = "any image but one of a single level"
_RESIZED = "a side that is not the wanted one"
_SHRUNK = "a side more than the wanted one"
PIXEL_MUTANTS: list[RuleMutant] = [
    # scale
    RuleMutant(
        "pixels_bgr",
        "red and blue are swapped, as OpenCV reads files",
        f"{S91}, BGR; ECOSYSTEM 1.4",
        "an image in which red and blue differ",
        _made(scale=lambda levels: scale_levels(levels[..., ::-1])),
    ),
    RuleMutant(
        "pixels_range_0_1",
        "levels are divided by 255 and not moved to [-1, 1]: mean and deviation missing",
        f"{S91}, [0,1] range",
        "a level that is not white",
        _made(scale=_linear(1 / 255, 0)),
    ),
    RuleMutant(
        "pixels_scaled_twice",
        "levels are divided by 255 twice and lie just above -1: all is black",
        f"{S91}, /255 twice",
        "a level above 0",
        _made(scale=lambda levels: _scaled(levels, 1 / 255 / 255)),
    ),
    RuleMutant(
        "pixels_not_rescaled",
        "mean and deviation of 0.5 are applied to levels that were not divided by 255",
        f"{S91}; transformers' do_rescale=False",
        "a level above 0",
        _made(scale=lambda levels: _scaled(levels, 1.0)),
    ),
    RuleMutant(
        "pixels_levels",
        "the levels 0 to 255 as they are: neither rescaled nor normalised",
        f"{S91}, normalisation missing",
        "any image",
        _made(scale=_linear(1, 0)),
    ),
    RuleMutant(
        "pixels_normalised_twice",
        "mean and deviation are applied twice: [-3, 1]",
        f"{S91}, normalisation doubled",
        "a level that is not white",
        _made(scale=lambda levels: _scaled(scale_levels(levels), 1.0)),
    ),
    RuleMutant(
        "pixels_range_-1_-0.5",
        "scale is 0.5 / 255 and offset -1, so that pixels lie in [-1, -0.5]",
        "GEMMA3_SPEC 3.1: keras-hub `convert_gemma3.py`, by reading",
        "a level above 0",
        _made(scale=_linear(0.5 / 255, -1)),
    ),
    RuleMutant(
        "pixels_imagenet",
        "mean and deviation are ImageNet's",
        "ECOSYSTEM 1.4, mean/std; transformers 38318",
        "any image",
        _made(scale=lambda levels: _scaled(levels, 1 / 255, *IMAGENET)),
    ),
    RuleMutant(
        "pixels_clip_mean",
        "mean and deviation are CLIP's",
        "ECOSYSTEM 1.4, mean/std; apple/coreai-models 82 (in Qwen3-VL)",
        "any image",
        _made(scale=lambda levels: _scaled(levels, 1 / 255, *CLIP)),
    ),
    RuleMutant(
        "pixels_linear_light",
        "pixels are linear light: the curve of sRGB was taken off and not put back",
        "ml-explore/mlx-swift-lm PR 411 (in Qwen3-VL)",
        "a level that is neither black nor white",
        _made(scale=_as_linear_light),
    ),
    # filter
    RuleMutant(
        "pixels_nearest",
        "resized to the nearest pixel",
        f"{S91}; gemma.cpp; {VECTORS}, Nearest",
        f"{_RESIZED}, and {_ANY}",
        _made(_pillow(Image.Resampling.NEAREST)),
    ),
    RuleMutant(
        "pixels_nearest_corner",
        "the pixel at floor(o * inputs / outputs), half a step up and to the left",
        f"{S91}, nearest; torch's interpolate; {VECTORS}, Nearest of rule float",
        f"{_RESIZED}, and {_ANY}",
        _made(_nearest_corner),
    ),
    RuleMutant(
        "pixels_no_antialias",
        "bilinear between two pixels, without antialias where the image shrinks",
        f"{S91}; llama.cpp before its PR 27594; keras-hub's ImageConverter; {VECTORS}, NoAntialias",
        f"{_SHRUNK}, and {_ANY}",
        _made(_no_antialias),
    ),
    RuleMutant(
        "pixels_align_corners",
        "corner pixels are put onto corner pixels, without antialias",
        f"{S91}; {VECTORS}, AlignCorners",
        f"{_RESIZED}, and {_ANY}",
        _made(_two_pixels(_corners)),
    ),
    RuleMutant(
        "pixels_bicubic",
        "resized with the bicubic filter",
        f"{S91}; {VECTORS}, Bicubic",
        f"{_RESIZED}, and {_ANY}",
        _made(_pillow(Image.Resampling.BICUBIC)),
    ),
    RuleMutant(
        "pixels_lanczos",
        "resized with the Lanczos filter",
        "mlx-swift-examples PR 222, whose resampleBicubic is CILanczosScaleTransform",
        f"{_RESIZED}, and {_ANY}",
        _made(_pillow(Image.Resampling.LANCZOS)),
    ),
    RuleMutant(
        "pixels_box",
        "averaged over equal boxes",
        f"{VECTORS}, BoxFilter",
        f"{_RESIZED}, and {_ANY}",
        _made(_pillow(Image.Resampling.BOX)),
    ),
    RuleMutant(
        "pixels_resized_in_linear_light",
        "the resize averages linear light, and the curve of sRGB is put back",
        "ml-explore/mlx-swift-lm PR 222, of Core Image's resampling",
        f"{_RESIZED}, and {_ANY}",
        _made(_in_linear_light),
    ),
    # rounding and order
    RuleMutant(
        "pixels_levels_cut_off",
        "the resize rounds levels down",
        f"{VECTORS}, Truncated",
        f"{_RESIZED}, and {_ANY}",
        _made(_once(lambda values: values.astype(np.uint8))),
    ),
    RuleMutant(
        "pixels_rounded_once",
        "a variant: levels are rounded once, at the end, much as torchvision does",
        f"GEMMA3_SPEC 3.1: transformers' default processor; {VECTORS}, TwoRoundings",
        "both sides resized, and enough pixels that a rounding shows",
        _made(_once(_levels)),
    ),
    RuleMutant(
        "pixels_columns_first",
        "a variant: columns before rows in portraits too, as Pillow up to 12.1",
        f"{VECTORS}, PassOrder",
        "a height that shrinks by more than twice what the width does",
        _made(_columns_first),
    ),
    RuleMutant(
        "pixels_float_resize",
        "a variant: the resize does not round to levels, as in google-deepmind/gemma",
        "GEMMA3_SPEC 3.1: google-deepmind/gemma `pre_process_image`",
        f"{_RESIZED}, and {_ANY}; without, some levels differ in the last bit",
        _made(resize_float_jit, scale_floats),
    ),
    RuleMutant(
        "pixels_normalised_first",
        "scaled to [-1, 1] first and then resized, so that nothing rounds to levels",
        f"{S91}, order of normalising and resizing",
        f"{_RESIZED}, and {_ANY}",
        _made(_float_first, lambda values: values),
    ),
    # shape
    RuleMutant(
        "pixels_letterbox",
        "the aspect is kept, and the rest of the square is black",
        f"{S91}; llama.cpp's default padding, PAD_CEIL",
        "an image that is not square",
        _made(_letterboxed),
    ),
    RuleMutant(
        "pixels_centre_crop",
        "the square in the middle is cut out, and the rest is lost",
        "CLIP's processor; apple/coreai-models 100",
        "an image that is not square",
        _made(_centre_cropped),
    ),
    RuleMutant(
        "pixels_xy_swapped",
        "x and y are swapped: the image lies on its side, mirrored",
        "GEMMA3_SPEC 9.1 (35); ECOSYSTEM 1.4",
        "an image unlike its mirror image along the diagonal",
        _made(_transposed),
    ),
    RuleMutant(
        "pixels_hwc_as_chw",
        "rows of red, green and blue are read as three planes, without a transposition",
        "GEMMA3_SPEC 9.1 (35); ECOSYSTEM 1.4, HWC/CHW",
        "more than one pixel, and colours or levels that differ",
        _flattened,
    ),
]
