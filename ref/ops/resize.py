"""Bilinear resizing with antialiasing: Pillow's, in fixed point on bytes, and the float one of google-deepmind/gemma.

Both are the triangle filter along columns and along rows. When an image shrinks by a ratio r the triangle grows to
r pixels on each side, so that every input pixel counts; when it grows the triangle reaches one pixel. They differ in
how they round: Pillow to whole levels twice, after the first and after the second pass, so that the order shows.
"""

from typing import Literal, NamedTuple

import numpy as np

from ref.ops.jit import kernel
from ref.ops.team import Divided

FRACTION_BITS = 22  # of Pillow's weights: 32, less 8 of the pixel, less 2 spare
LONGEST_SIDE = 2**24  # Pillow holds sides in float32, which counts no further


def triangle_weights(inputs: int, outputs: int) -> np.ndarray:
    """Return how much each input pixel of a line counts in each output pixel.

        w[o, i] = max(0, 1 - |i + 1/2 - (o + 1/2) s| / max(s, 1)) / (their sum over i),    s = inputs / outputs

    Args:
        inputs: I, pixels of the line.
        outputs: O, pixels wanted.

    Returns:
        [O, I] float64. Each row sums to 1: what the triangle has outside the image is shared by what it has inside.

    Rounding: float64, in Pillow's order of operations; the sum runs over i in order.
    Source: Pillow 13 `precompute_coeffs`; jax 0.9 `compute_weight_mat` is the same formula.
    Differs: torch's and TensorFlow's bilinear without antialias let the triangle reach one pixel always;
        `align_corners` maps the centres of the corner pixels onto each other.
    """
    scale = inputs / outputs
    reach = max(scale, 1.0)
    center = ((np.arange(outputs) + 0.5) * scale)[:, None]
    i = np.arange(inputs)
    inside = (i >= np.trunc(center - reach + 0.5)) & (i < np.trunc(center + reach + 0.5))
    weights = np.where(inside, np.maximum(1.0 - np.abs((i - center + 0.5) * (1.0 / reach)), 0.0), 0.0)
    return weights / np.cumsum(weights, axis=1)[:, -1:]  # not np.sum, which adds in another order


class Taps(NamedTuple):
    """The same weights as a kernel reads them: of each output pixel, a run of inputs."""

    first: np.ndarray  # [O] the run's first input
    count: np.ndarray  # [O] its length
    weights: np.ndarray  # [O, longest run]


@kernel
def taps_of(inputs: int, outputs: int) -> Taps:
    """Kernel of `triangle_weights`: the weights that are not zero, each row summed in order."""
    scale = inputs / outputs
    reach = max(scale, 1.0)
    first, count = np.empty(outputs, np.int64), np.empty(outputs, np.int64)
    weights = np.zeros((outputs, 2 * int(np.ceil(reach)) + 1))
    for o in range(outputs):
        center = (o + 0.5) * scale
        first[o] = max(int(center - reach + 0.5), 0)
        count[o] = min(int(center + reach + 0.5), inputs) - first[o]
        total = 0.0
        for t in range(count[o]):
            weights[o, t] = max(1.0 - abs((t + first[o] - center + 0.5) * (1.0 / reach)), 0.0)
            total += weights[o, t]
        weights[o, : count[o]] /= total
    return Taps(first, count, weights)


def rows_first(sides: tuple[int, int], wanted_sides: tuple[int, int]) -> bool:
    """Tell whether Pillow 13 sums over rows before columns, because the height shrinks by so much more.

        height < Y  and  Y - height > 2 (X - width)

    Args:
        sides: (Y, X) of the image.
        wanted_sides: (height, width) to resize to.

    Source: Pillow 13.0.0 (its PR 9549); tied cases tried on it.
    Differs: Pillow up to 12.1 never does; 12.2 and 12.3 do when height < Y and Y > 100 X.
    """
    shrinks = sides[0] - wanted_sides[0]
    return shrinks > 0 and shrinks > 2 * (sides[1] - wanted_sides[1])


def resize_pillow(
    image: np.ndarray, height: int, width: int, first: Literal["rows", "columns"] | None = None
) -> np.ndarray:
    """Resize bytes exactly as Pillow's `Image.resize(..., BILINEAR)` does, to the bit.

        out[o] = min(255, floor(1/2 + sum_i floor(2^22 w[o, i] + 1/2) image[i] / 2^22))    along X, and along Y

    Args:
        image: [Y, X, C] uint8.
        height, width: the sides wanted, in pixels. A side that stays as it is has no pass and no rounding.
        first: which pass is first, "rows" (summed over, so heights change) or "columns"; None: as Pillow 13 chooses.

    Returns:
        [height, width, C] uint8.

    Rounding: weights to 22 bits of fraction, half up; each pass to whole levels, half up. All in integers.
    Raises: ValueError: not [Y, X, C] uint8, a side that is not 1 to 2^24, or another `first`.
    Source: Pillow 13.0.0 `ImagingResample`, 8 bits a channel.
    Differs: Pillow up to 12.1 always has columns first: of a portrait, levels are up to 1 apart from Pillow 13's.
        torchvision's antialiased bilinear on uint8 (transformers' default image processor) keeps fewer bits of the
        weights; llama.cpp before its PR 27594 did not antialias.
    """
    _check(image, height, width, ("uint8",))
    for axis in _order(first, image.shape, (height, width)):
        side = (height, width)[axis]
        if side != image.shape[axis]:
            image = _weigh_bytes(triangle_weights(image.shape[axis], side), image, axis)
    return np.array(image)


def _order(first, sides, wanted_sides):
    if first not in (None, "rows", "columns"):
        raise ValueError(f"first: wanted rows, columns or None, got {first!r}")
    return (0, 1) if (first == "rows" if first else rows_first(sides, wanted_sides)) else (1, 0)


def _weigh_bytes(weights, image, axis):
    fixed = np.trunc(0.5 + weights * 2**FRACTION_BITS).astype(np.int64)
    sums = np.einsum(("oi,ixc->oxc", "oi,yic->yoc")[axis], fixed, image.astype(np.int64))
    levels = (sums + 2 ** (FRACTION_BITS - 1)) >> FRACTION_BITS
    return np.minimum(levels, 255).astype(np.uint8)  # the rounded weights of a long run may sum to more than 1


LINES = 8  # that a thread takes at once


@kernel(error_model="python")
def _fixed(weights):
    # a sum of 255 * weight stays below 2^31: rounding up at most doubles a weight, and their sum from 1
    return (0.5 + weights * 2**FRACTION_BITS).astype(np.int32)


@Divided
@kernel(error_model="python")
def _weigh_columns(start, stop, image, taps, weights, out):
    channels = image.shape[2]
    for y in range(start, stop):
        for x in range(out.shape[1]):
            first = taps.first[x]
            for c in range(channels):
                total = 1 << (FRACTION_BITS - 1)
                for t in range(taps.count[x]):
                    total += weights[x, t] * image[y, first + t, c]
                out[y, x, c] = min(total >> FRACTION_BITS, 255)


@Divided
@kernel(error_model="python")
def _weigh_rows(start, stop, image, taps, weights, out):
    for y in range(start, stop):
        total = np.full(image.shape[1], 1 << (FRACTION_BITS - 1), np.int32)
        for t in range(taps.count[y]):
            weight, row = weights[y, t], image[taps.first[y] + t]
            for e in range(row.size):
                total[e] += weight * row[e]
        for e in range(total.size):
            out[y, e] = min(total[e] >> FRACTION_BITS, 255)


def resize_pillow_jit(
    image: np.ndarray, height: int, width: int, first: Literal["rows", "columns"] | None = None
) -> np.ndarray:
    """Kernel of `resize_pillow`: int32 sums over the run of inputs of each output pixel, exact in any order."""
    _check(image, height, width, ("uint8",))
    image = np.ascontiguousarray(image)
    for axis in _order(first, image.shape, (height, width)):
        (Y, X, C), side = image.shape, (height, width)[axis]
        if axis == 0 and side != Y:
            taps, lines = taps_of(Y, side), np.empty((side, X * C), np.uint8)
            _weigh_rows(side, LINES, image.reshape(Y, X * C), taps, _fixed(taps.weights), lines)
            image = lines.reshape(side, X, C)
        if axis == 1 and side != X:
            taps, given, image = taps_of(X, side), image, np.empty((Y, side, C), np.uint8)
            _weigh_columns(Y, LINES, given, taps, _fixed(taps.weights), image)
    return np.array(image)


def resize_float(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize without rounding to levels, as `jax.image.resize(..., "bilinear", antialias=True)`.

        out[p, q, c] = sum_y sum_x w_Y[p, y] w_X[q, x] image[y, x, c]

    Args:
        image: [Y, X, C] float, or uint8, whose levels 0 to 255 become numbers.
        height, width: the sides wanted, in pixels.

    Returns:
        [height, width, C], image.dtype; float32 for uint8. Within the range of the image.

    Rounding: float64 inside; one rounding to the result's dtype on return.
    Raises: ValueError: not [Y, X, C], another dtype, or a side that is not 1 to 2^24.
    Source: jax 0.9 `image.resize`, which google-deepmind/gemma 3.3.0 calls on uint8 images.
    Differs: jax computes in float32, sample places too: at column 4000 a place is off by 1e-4 pixels.
    """
    dtype = _check(image, height, width, ("uint8", "float32", "float64"))
    columns, rows = triangle_weights(image.shape[1], width), triangle_weights(image.shape[0], height)
    wide = np.einsum("oi,yic->yoc", columns, image.astype(np.float64))
    return np.einsum("oi,ixc->oxc", rows, wide).astype(dtype)


@Divided
@kernel
def _weigh_floats(start, stop, image, rows, columns, channels, out):
    for y in range(start, stop):
        line = np.zeros(image.shape[1])
        for t in range(rows.count[y]):
            weight, row = rows.weights[y, t], image[rows.first[y] + t]
            for e in range(row.size):
                line[e] += weight * row[e]
        for x in range(columns.first.size):
            for c in range(channels):
                total = 0.0
                for t in range(columns.count[x]):
                    total += columns.weights[x, t] * line[(columns.first[x] + t) * channels + c]
                out[y, x * channels + c] = total


def resize_float_jit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Kernel of `resize_float`: of each output row first the sum over rows, then over columns, in order."""
    dtype = _check(image, height, width, ("uint8", "float32", "float64"))
    Y, X, C = image.shape
    out = np.empty((height, width * C), dtype)
    rows, columns = taps_of(Y, height), taps_of(X, width)
    _weigh_floats(height, LINES, np.ascontiguousarray(image).reshape(Y, X * C), rows, columns, C, out)
    return out.reshape(height, width, C)


def _check(image, height, width, dtypes):
    """Return the result's dtype, or refuse what cannot be resized."""
    if image.ndim != 3 or image.dtype.name not in dtypes:
        raise ValueError(f"image: wanted [Y, X, C] of {' or '.join(dtypes)}, got {list(image.shape)} {image.dtype}")
    if not all(1 <= side <= LONGEST_SIDE for side in (*image.shape[:2], height, width)):
        got = f"{image.shape[0]} x {image.shape[1]} to {height} x {width}"
        raise ValueError(f"image: wanted sides of 1 to {LONGEST_SIDE} pixels, got {got}")
    return np.float32 if image.dtype == np.uint8 else image.dtype
