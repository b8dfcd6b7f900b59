"""Resizes as ports have them, by other filters, shapes and roundings than Pillow's bilinear one."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from ref.ops.resize import resize_float_jit, resize_pillow_jit
from ref.prompt.images import scale_levels


def pillow_filter(kind: Image.Resampling) -> Callable:
    """Resize as Pillow does by one of its filters."""
    return lambda image, height, width: np.asarray(Image.fromarray(image).resize((width, height), kind))


def to_levels(values: np.ndarray) -> np.ndarray:
    """Round to the nearest level, halves up."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def two_pixels(places: Callable[[int, int], np.ndarray]) -> Callable:
    """Bilinear between the two nearest input pixels, however much the image shrinks."""

    def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
        values = image.astype(np.float64)
        for axis, side in enumerate((height, width)):
            last = values.shape[axis] - 1
            place = np.clip(places(last + 1, side), 0, last)
            low = place.astype(np.int64)
            part = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            values = values.take(low, axis) * (1 - part) + values.take(np.minimum(low + 1, last), axis) * part
        return to_levels(values)

    return resize


def centres(inputs: int, outputs: int) -> np.ndarray:
    """Return where each output pixel's centre lies among the inputs."""
    return (np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5


def corners(inputs: int, outputs: int) -> np.ndarray:
    """Return places that put corner pixels onto corner pixels."""
    return np.arange(outputs) * ((inputs - 1) / max(outputs - 1, 1))


def nearest_corner(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Take the pixel at floor(output * inputs / outputs)."""
    rows, columns = (np.arange(side) * old // side for side, old in zip((height, width), image.shape[:2], strict=True))
    return image[rows[:, None], columns]


def no_antialias(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolate between two pixels where the image shrinks; else be right."""
    shrinks = height < image.shape[0] or width < image.shape[1]  # else the filter is the right one
    return (two_pixels(centres) if shrinks else resize_pillow_jit)(image, height, width)


def letterboxed(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Keep the aspect, and leave the rest of the square black."""
    by = min(height / image.shape[0], width / image.shape[1])
    Y, X = (min(side, math.ceil(old * by)) for side, old in zip((height, width), image.shape[:2], strict=True))
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - Y) // 2, (width - X) // 2
    out[top : top + Y, left : left + X] = resize_pillow_jit(image, Y, X)
    return out


def centre_cropped(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut out the square in the middle and lose the rest."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return resize_pillow_jit(image[top : top + side, left : left + side], height, width)


def columns_first(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum over columns first, whatever the shape."""
    return resize_pillow_jit(image, height, width, "columns")


def once(rounding: Callable) -> Callable:
    """Round once, at the end."""
    return lambda image, height, width: rounding(resize_float_jit(image, height, width))


def in_linear_light(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average linear light, and put the curve of sRGB back."""
    unit = image / 255
    light = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    light = resize_float_jit(light, height, width)
    return to_levels(255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055))


def transposed(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Swap x and y."""
    return resize_pillow_jit(image.swapaxes(0, 1), height, width)


def float_first(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale to [-1, 1] before the resize."""
    return resize_float_jit(scale_levels(image), height, width)
