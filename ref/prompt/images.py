"""Images as the vision tower wants them: read, cut into crops, resized to squares, scaled to [-1, 1]."""

import os
from typing import Any, Literal, NamedTuple

import numpy as np

from ref.config import SIGLIP, CropConfig
from ref.errors import wanted
from ref.ops.pan_and_scan import crop_boxes, cut
from ref.ops.resize import resize_float_jit, resize_pillow_jit
from ref.prompt.image_array import Layout, ValueRange, read_array
from ref.prompt.image_file import check_sides, read_file
from ref.prompt.placeholders import MOST_CROPS

Resize = Literal["pillow", "pillow12.1", "float"]

RESIZES = ("pillow", "pillow12.1", "float")
LARGEST_SIZE = 4096  # pixels


def read_image(
    source: Any,
    where: object | None = None,
    *,
    layout: Layout | None = None,
    value_range: ValueRange | None = None,
) -> np.ndarray:
    """Read an image file, its bytes, or an array, as bytes of red, green and blue.

    Args:
        source: path, bytes of a file, or an array.
        where: what a refusal calls it; None: its path, or "image".
        layout, value_range: of an array, as for `read_array`.

    Returns:
        [Y, X, 3] uint8.

    Raises:
        BadInput: as `read_file` and `read_array`; neither of the two; a layout or range given beside a file.

    Source: `read_file`, `read_array`.
    Differs: transformers also takes URLs, base64 and PIL images.
    """
    is_path = isinstance(source, (str, os.PathLike))
    where = where or (source if is_path else "image")
    if isinstance(source, np.ndarray):
        return read_array(source, where, layout, value_range)
    if not is_path and not isinstance(source, (bytes, bytearray, memoryview)):
        raise wanted("image", where, "a path, bytes or a NumPy array", type(source).__name__)
    if layout or value_range:
        raise wanted("layout, value_range", where, "an array beside them", "a file")
    return read_file(source, where)


class Preprocessed(NamedTuple):
    """What the vision tower sees of one picture."""

    pixels: np.ndarray  # [n, 3, size, size] float32 in [-1, 1]: the whole image, then its crops
    boxes: np.ndarray  # [n - 1, 4] int64: y0, x0, y1, x1 of each crop, half-open


def preprocess(
    image: np.ndarray, crops: CropConfig | None = None, *, resize: Resize = "pillow", size: int = SIGLIP.image
) -> Preprocessed:
    """Stretch an image and its crops to squares and scale them to [-1, 1].

        pixels = scale(resize(image)), then scale(resize(crop)) for each crop in reading order

    Args:
        image: [Y, X, 3] uint8, as `read_image` returns it.
        crops: Pan & Scan as `ref.config.CROPS` has it; None: the whole image only.
        resize: "pillow" (transformers with Pillow 13, gemma_pytorch), "pillow12.1" (the same with Pillow up to 12.1,
            which differs by a level here and there in portraits), "float" (google-deepmind/gemma).
        size: side of the squares in pixels.

    Raises:
        BadInput: another shape or dtype, no or too many pixels, another name of a resize, a size
            outside 1 to 4096, impossible crops.

    Rounding: that of the resize, then of `scale_levels` or `scale_floats`.
    Source: transformers 5.23 `Gemma3ImageProcessorPil` (whole image first); gemma `pre_process_image`.
    Differs: transformers' class defaults are 224 pixels; the checkpoints' files say 896. Its default processor resizes
        with torchvision, levels off by one here and there. gemma_pytorch crops by default, the others when asked.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise wanted("image", "preprocess", "[Y, X, 3] uint8 from read_image", f"{list(image.shape)} {image.dtype}")
    check_sides(image.shape[0], image.shape[1], "image")
    if resize not in RESIZES:
        raise wanted("resize", "preprocess", " ".join(RESIZES), resize)
    if not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE:
        raise wanted("size", "preprocess", f"1 to {LARGEST_SIZE}", size)
    boxes = find_boxes(image.shape[0], image.shape[1], crops)
    views = [image, *(cut(image, box) for box in boxes)]
    if resize == "float":
        squares = [scale_floats(resize_float_jit(view, size, size)) for view in views]
    else:
        first = "columns" if resize == "pillow12.1" else None
        squares = [scale_levels(resize_pillow_jit(view, size, size, first)) for view in views]
    return Preprocessed(np.ascontiguousarray(np.stack(squares).transpose(0, 3, 1, 2)), boxes)


def find_boxes(height: int, width: int, crops: CropConfig | None) -> np.ndarray:
    """Return the boxes of an image's crops; none where `crops` is None.

    Args:
        height, width: of the image, in pixels.
        crops: the policy and its settings.

    Returns:
        [n, 4] int64: y0, x0, y1, x1, half-open; the whole image is not among them.

    Raises:
        BadInput: a setting that is impossible.

    Source: `crop_boxes`.
    """
    if crops is None:
        return np.empty((0, 4), np.int64)
    if not 0 < crops.min_ratio < np.inf:
        raise wanted("min_ratio", "crops", "a finite number above 0", crops.min_ratio)
    if not isinstance(crops.min_crop, int) or not 1 <= crops.min_crop <= 10**9:
        raise wanted("min_crop", "crops", "1 pixel or more", crops.min_crop)
    if not isinstance(crops.max_crops, int) or not 1 <= crops.max_crops <= MOST_CROPS:
        raise wanted("max_crops", "crops", f"1 to {MOST_CROPS}", crops.max_crops)
    settings = float(crops.min_ratio), crops.min_crop, crops.max_crops, crops.past_edge == "clip"
    return crop_boxes(height, width, *settings)


def scale_levels(levels: np.ndarray) -> np.ndarray:
    """Scale levels 0 .. 255 to [-1, 1].

        (float32(level * (1/255)) - 0.5) / 0.5

    Args:
        levels: [...] uint8.

    Returns:
        [...] float32.

    Rounding: the product in float64 with 1/255 rounded, then to float32; difference and quotient in float32, exact.
    Source: transformers 5.23 `rescale` and `normalize`, with the numbers of the checkpoints' files.
    Differs: transformers' torchvision processor forms (level - 127.5) / 127.5 in float32, as `scale_floats`; gemma.cpp
        level / 127.5 - 1. All are within 1 ulp of 1.
    """
    unit = (levels * (1 / 255)).astype(np.float32)
    return (unit - np.float32(0.5)) / np.float32(0.5)


def scale_floats(values: np.ndarray) -> np.ndarray:
    """Scale numbers 0 .. 255 to [-1, 1].

        clip((value - 127.5) / 127.5, -1, 1)

    Args:
        values: [...] float32.

    Returns:
        [...] float32.

    Rounding: float32 at each step.
    Source: google-deepmind/gemma 3.3.0 `pre_process_image`.
    Differs: as `scale_levels`.
    """
    half = np.float32(127.5)
    return np.clip((values - half) / half, np.float32(-1), np.float32(1))
