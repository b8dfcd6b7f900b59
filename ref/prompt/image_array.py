"""Arrays to bytes of red, green and blue: layout and range are told, never guessed."""

from typing import Literal

import numpy as np

from ref.errors import wanted
from ref.prompt.image_file import check_sides, to_levels

Layout = Literal["HWC", "CHW"]
ValueRange = Literal["0..1", "0..255", "-1..1"]

RANGES = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}


def read_array(
    array: np.ndarray, where: object, layout: Literal["HWC", "CHW"] | None = None, value_range: str | None = None
) -> np.ndarray:
    """Read an array as bytes of red, green and blue.

    Args:
        array: [Y, X, 3], [3, Y, X], or [Y, X] of grey; of uint8 (0 to 255), uint16 (0 to 65535, scaled to the nearest
            level as `to_levels` does), or float.
        where: what a refusal calls it.
        layout: "HWC" or "CHW"; must be given where the first and the last axis have length 3, else it is a check.
        value_range: "0..1", "0..255" or "-1..1", black to white of a float array, rounded to the nearest of 256
            levels. Never guessed: a dark picture of 0 .. 255 may lie in 0 .. 1.

    Returns:
        [Y, X, 3] uint8, a copy.

    Raises:
        BadInput: another shape or dtype, no pixels or more than 64 MP, a layout or range that must be given and is
            not, a value that is NaN or out of range.

    Differs: transformers guesses both: 3 channels first or last, first preferred; floats within 0 .. 1 are multiplied
        by 255, and others must be whole numbers. It rounds towards zero, and takes 1 and 4 channels too.
    """
    if array.ndim != 2 and _channel_axis(array, where, layout) == 0:
        array = np.moveaxis(array, 0, -1)
    check_sides(array.shape[0], array.shape[1], where)
    levels = _to_bytes(array, where, value_range)
    return np.array(levels if array.ndim == 3 else levels[..., None].repeat(3, axis=-1), order="C")


def _to_bytes(array, where, value_range):
    if array.dtype.kind == "f":
        return _round_floats(array, where, value_range)
    name = array.dtype.name
    if name not in ("uint8", "uint16") or value_range:
        want = "float values beside value_range" if value_range else "uint8, uint16 or float values"
        raise wanted("array", where, want, name)
    return array if name == "uint8" else to_levels(array)


def _channel_axis(array, where, layout):
    """Return the axis of red, green and blue, which must be known beyond doubt."""
    if layout not in (None, "HWC", "CHW"):
        raise wanted("layout", where, "HWC or CHW", repr(layout))
    axes = {"HWC": 2, "CHW": 0}
    fitting = [name for name in axes if array.ndim == 3 and array.shape[axes[name]] == 3 and layout in (None, name)]
    if len(fitting) == 2:
        raise wanted("array", where, "layout='HWC' or 'CHW' beside it", f"{list(array.shape)}, which can be either")
    if not fitting:
        raise wanted("array", where, f"{layout or 'HWC or CHW'} with 3 channels, or [Y, X]", list(array.shape))
    return axes[fitting[0]]


def _round_floats(array, where, value_range):
    if value_range not in RANGES:
        raise wanted("value_range", where, f"one of {' '.join(RANGES)} beside a float array", repr(value_range))
    low, high = RANGES[value_range]
    bad = array[~((array >= low) & (array <= high))]  # so that NaN is bad too
    if bad.size:
        raise wanted("array", where, f"values in {value_range}", f"{bad[0]} ({bad.size} such)")
    return np.rint((array.astype(np.float64) - low) * (255.0 / (high - low))).astype(np.uint8)
