"""What is known of a tap that a dump keeps as a sketch."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class SketchedValues(NamedTuple):
    """What is known of a tap's values, [T, k]: k of each token; without an axis of tokens, of the whole."""

    values: np.ndarray  # [T, k] float32 or float64; integers and booleans as they are
    places: tuple[np.ndarray, ...]  # of each of the registry's axes [T, k]: where each value stands
    real: np.ndarray  # [T, k] bool, False at padding that has been cut out
    shape: tuple[int, ...]  # of the whole, in the registry's axes, without that padding
    norms: np.ndarray | None  # [n] of what stands along one axis; None where they are of other values
    axis: int  # of the registry's, that the norms go along
    first: tuple[int, ...] | None  # where the first value stands that is not finite; None also of padding


class SketchedTap(NamedTuple):
    """A tap that is kept as a sketch."""

    foreign: str
    dtype: str  # as in Stored, of the whole tensor
    sha256: str  # of the whole's bytes
    nonfinite: int  # values that are not finite
    read: Callable[[], SketchedValues]
