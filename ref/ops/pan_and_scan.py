"""Pan & Scan: into which strips an elongated image is cut, each then seen at full resolution beside the whole."""

import numpy as np

from ref.ops.jit import kernel


@kernel(error_model="python")
def count_crops(longer: int, shorter: int, min_ratio: float, min_crop: int, max_crops: int) -> int:
    """Return into how many strips the longer side is cut; 0: the image is seen whole only.

        n = 0                                                       if longer / shorter < min_ratio
        n = min(max_crops, max(2, min(floor(longer / shorter + 1/2), floor(longer / min_crop))))
        n = 0                                                       if min(ceil(longer / n), shorter) < min_crop

    Args:
        longer, shorter: the sides of the image in pixels.
        min_ratio: of the longer to the shorter side; at exactly this ratio there are crops.
        min_crop: in pixels. Asked of the strips' nominal size: the last may be smaller.
        max_crops: the last word. With 1 there is one strip, the whole image once more.

    Source: transformers 5.23 `Gemma3ImageProcessor.pan_and_scan`; gemma_pytorch `_pan_and_scan_os`.
    Differs: the quotients are float64 there. The one compared with min_ratio is here too, so that 1.2 means what it
        means there; the others are exact integers and agree for any side below 2^24.
    """
    if longer / shorter < min_ratio:
        return 0
    count = min((2 * longer + shorter) // (2 * shorter), longer // min_crop)  # halves round up: 2.5 makes 3
    count = min(max_crops, max(2, count))
    return 0 if min((longer + count - 1) // count, shorter) < min_crop else count


@kernel(error_model="python")
def crop_boxes(height: int, width: int, min_ratio: float, min_crop: int, max_crops: int, clip: bool) -> np.ndarray:
    """Return the boxes of an image's crops, in reading order; the whole image is not one of them.

    Strip i of a landscape or square image covers columns i s .. (i + 1) s - 1, s = ceil(width / n); a portrait is
    cut into rows likewise. n s may exceed the side: then the last strip reaches past the edge.

        2500 x 1000 (width x height), n = 3, s = 834:   [0, 0, 1000, 834] [0, 834, 1000, 1668] [0, 1668, 1000, 2502]
        clipped, the last is [0, 1668, 1000, 2500]

    Args:
        height, width: of the image, in pixels.
        min_ratio, min_crop, max_crops: as for `count_crops`.
        clip: cut boxes at the edge (transformers) instead of leaving them to be filled with black (gemma_pytorch).

    Returns:
        [n, 4] int64: y0, x0, y1, x1, half-open.

    Raises: ValueError: a side, min_crop or max_crops below 1, or min_ratio not positive and finite.
    Source: as `count_crops`.
    Differs: with few pixels to a strip one may lie past the edge altogether (a row of 5 pixels in 4 strips of 2).
        Clipped it is empty and dropped here; transformers keeps it and fails to resize it. Unclipped it stays, a
        black image, as in gemma_pytorch. Where there are no crops, gemma_pytorch's function returns the whole image;
        it also takes a single crop (max_crops 1) for that.
    """
    if min(height, width, min_crop, max_crops) < 1 or not 0.0 < min_ratio < np.inf:
        raise ValueError("crops: wanted sides, min_crop, max_crops of at least 1 and a finite min_ratio above 0")
    longer, shorter = max(height, width), min(height, width)
    count = count_crops(longer, shorter, min_ratio, min_crop, max_crops)
    step = (longer + count - 1) // max(count, 1)
    if clip and count > 0:
        count = (longer + step - 1) // step
    boxes = np.empty((count, 4), np.int64)
    for i in range(count):
        start, stop = i * step, (i + 1) * step
        if clip:
            stop = min(stop, longer)
        if width >= height:
            boxes[i] = (0, start, height, stop)
        else:
            boxes[i] = (start, 0, stop, width)
    return boxes


def cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Copy a box out of an image; what lies past the edge is black.

    Args:
        image: [Y, X, C].
        box: y0, x0, y1, x1, half-open, with 0 <= y0 <= y1 and 0 <= x0 <= x1.

    Returns:
        [y1 - y0, x1 - x0, C], image.dtype.

    Source: PIL `Image.crop`, which fills with zeros.
    Differs: slicing an array, as transformers does, clips instead.
    """
    y0, x0, y1, x1 = box
    out = np.zeros((y1 - y0, x1 - x0, image.shape[2]), image.dtype)
    inside = image[y0:y1, x0:x1]
    out[: inside.shape[0], : inside.shape[1]] = inside
    return out
