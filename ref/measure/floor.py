"""The noise floor: how far from the truth valid runs of a dump's own arithmetic are; and errors as multiples of it."""

from collections.abc import Iterable

import numpy as np

from ref.emulate.operands import ROUND
from ref.golden_files.sampled import LIMIT as LIMIT
from ref.measure.distance import Distance, Errors, errors_of, sums_of
from ref.measure.scans import moments
from ref.model.taps import row_of

STEP = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}  # of neighbours, relative
FLOAT64 = 5e-11  # the truth itself is float64; it agrees with the witness's to twice this
WORST = 2 / 3  # of a worst token or channel: its limit is 3
DRIFT = 2 * LIMIT  # floors that what is inherited may be off by while every operation matches
FOLLOWS = "follows from"  # of a tap of a small dump that is off, made from one that is
SMALL = "smaller than rounding noise at each value, found over all together"  # of a mistake in a tap within the limit


class Floor:
    """The largest distances of any valid run at a tap, of the whole and of each token and channel."""

    def __init__(self, least: float = 0.0) -> None:
        self.distance = Distance(least, least, least, least, least)
        self.tokens: np.ndarray = np.zeros(0)
        self.channels: np.ndarray = np.zeros(0)

    def add(self, errors: Errors) -> None:
        """Take a valid run into account."""
        if not np.isfinite(errors.distance.whole):  # float16 runs that overflow tell nothing
            return
        self.distance = Distance(*map(max, self.distance, errors.distance))
        self.tokens = np.maximum(self.tokens, errors.tokens) if self.tokens.size else errors.tokens
        self.channels = np.maximum(self.channels, errors.channels) if self.channels.size else errors.channels

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


def least(truth: np.ndarray, stored: str, tokens: int) -> float:
    """Return the least noise that a format can be held to: six runs agree by chance where few values decide.

        step * max(1 / sqrt(n), 1 / sqrt(tokens) in float32),    n = (sum t^2)^2 / sum t^4

    n is the number of values that decide: one token's largest channel is 1. An inverse root or a sum of weights is one
    number a token, whose error all its channels share; in narrower formats it stays below their own rounding.

    Args:
        truth: [...] float64.
        stored: the format of the dump's tensor.
        tokens: how many.

    Source: own; measured on decoded single tokens.
    """
    if stored == "float64":
        return FLOAT64
    second, fourth = moments(truth)
    share = float(np.sqrt(fourth)) / second if fourth > 0 and np.isfinite(fourth) else 0.0
    shared = tokens**-0.5 if stored not in ("bfloat16", "float16") else 0.0
    return STEP.get(stored, STEP["float32"]) * min(1.0, max(share, shared))


def floor_of(
    runs: Iterable[Errors], truth: np.ndarray, stored: str, tap: str, valid: np.ndarray, as_stored: bool = False
) -> Floor:
    """Measure the noise floor at a tap.

        floor = max over valid runs of distance(run, truth), and at least `least`; what only moves values has no least

    The truth rounded to the format is a valid run as well. No run whose values are of that format is nearer, so that of
    such a run and of that the run decides.

    Args:
        runs: the errors of each valid run.
        truth: [...] float64.
        stored: the format of the dump's tensor.
        tap: its name.
        valid: [tokens] bool.
        as_stored: whether the values of a run are finite, and of the format of the dump's tensor.

    Returns:
        Floor, of which no distance is 0 where the operation computes.

    Source: docs/judging.md, the noise floor.
    Differs: fixed tolerances elsewhere.
    """
    floor = Floor(0.0 if row_of(tap).exact else least(truth, stored, max(1, int(np.sum(valid)))))
    for errors in runs:
        floor.add(errors)
    if as_stored:
        return floor
    with np.errstate(over="ignore"):
        nearest = truth if stored == "float64" else ROUND.get(stored, ROUND["float32"])(truth.astype(np.float32))
    floor.add(errors_of(sums_of(nearest, truth, tap, valid)))
    return floor
