"""The noise floor: how far from the truth valid runs of a dump's own arithmetic are; and errors as multiples of it."""

from collections.abc import Iterable

import numpy as np

from ref.verify.emulate import ROUND
from ref.verify.measure import Distance, Sums, distance_of, relative, sums_of

LIMIT = 2.0  # multiples of the floor that still are a match
WORST = 2 / 3  # of a worst token or channel: its limit is 3


class Floor:
    """The largest distances of any valid run at a tap, of the whole and of each token and channel."""

    def __init__(self) -> None:
        self.distance = Distance(0.0, 0.0, 0.0, 0.0, 0.0)
        self.tokens: np.ndarray = np.zeros(0)
        self.channels: np.ndarray = np.zeros(0)

    def add(self, sums: Sums) -> None:
        """Take a valid run into account."""
        got = distance_of(sums)
        if not np.isfinite(got.whole):  # float16 runs that overflow tell nothing
            return
        self.distance = Distance(*map(max, self.distance, got))
        tokens, channels = relative(sums.tokens), relative(sums.channels)
        self.tokens = np.maximum(self.tokens, tokens) if self.tokens.size else tokens
        self.channels = np.maximum(self.channels, channels) if self.channels.size else channels

    def ratio(self, distance: Distance) -> float:
        """Return the largest of the five distances in multiples of the floor's: 0 where equal, infinite above none.

        The worst token and channel count for two thirds: the largest of many is known less well than a mean.
        """
        ratios = [in_floors(d, f) for d, f in zip(distance, self.distance, strict=True)]
        return max(*ratios[:3], *(ratio * WORST for ratio in ratios[3:]))


def in_floors(distance: float, floor: float) -> float:
    """Divide; 0 / 0 is 0, and NaN is infinite."""
    if distance == 0:
        return 0.0
    return float(distance / floor) if floor > 0 and np.isfinite(distance) else float("inf")


def floor_of(values: Iterable[np.ndarray], truth: np.ndarray, stored: str, tap: str, valid) -> Floor:
    """Measure the noise floor at a tap.

        floor = max over valid runs of distance(run, truth), and at least that of truth in the dump's own format

    Args:
        values: the tap's value in each valid run.
        truth: [...] float64.
        stored: the format of the dump's tensor.
        tap: its name.
        valid: [tokens] bool.

    Source: ARCHITECTURE, noise floor.
    Differs: fixed tolerances elsewhere.
    """
    floor = Floor()
    with np.errstate(over="ignore"):
        nearest = truth if stored == "float64" else ROUND.get(stored, ROUND["float32"])(truth.astype(np.float32))
    floor.add(sums_of(nearest, truth, tap, valid))
    for value in values:
        floor.add(sums_of(value, truth, tap, valid))
    return floor
