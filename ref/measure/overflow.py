"""Values beyond a number format: where valid runs of the same arithmetic overflow too, it is the format's fault."""

from typing import NamedTuple

import numpy as np

from ref.measure.distance import by_token
from ref.measure.scans import all_below
from ref.measure.tap_finding import Beyond

LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}
WRITTEN = {"float16": "65,504", "bfloat16": "3.39e38", "float32": "3.40e38"}


class Overflow(NamedTuple):
    """Where a value cannot be judged, and why."""

    format: np.ndarray  # [...] bool: infinite or clamped, as in valid runs on the same inputs
    inputs: np.ndarray  # [...] bool: not finite, since what it is made of is not

    @property
    def hidden(self) -> np.ndarray:
        """[...] bool, of either kind."""
        return self.format | self.inputs


def is_within(value: np.ndarray, truth: np.ndarray, dtype: str) -> bool:
    """Tell whether all of a value and of its truth is finite, and the value below the largest of its format."""
    return all_below(value, LARGEST.get(dtype, np.inf)) and all_below(truth)


def overflow_of(value: np.ndarray, truth: np.ndarray, runs: list[np.ndarray], dtype: str) -> Overflow | None:
    """Find values that the format cannot hold, and values made of such; None where there is nothing of the kind.

    Args:
        value: [...] the dump's.
        truth: [...] float64, on the dump's own inputs.
        runs: [...] of valid runs on the dump's own inputs.
        dtype: of the dump's tensor.

    Source: definition; clamping at 65,504 is what transformers did for T5 in float16.
    Differs: a scan for NaN blames the operation at which the first appears.
    """
    most = LARGEST.get(dtype, np.inf)
    if is_within(value, truth, dtype):
        return None
    large = np.abs(value) >= most
    over = np.abs(truth) > most
    for run in runs:
        over |= ~np.isfinite(run)
    beyond = large & over & np.isfinite(truth)
    found = Overflow(beyond, ~np.isfinite(value) & ~beyond & (over | ~np.isfinite(truth)))
    return found if found.hidden.any() else None


def blanked(hidden: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Return values with zeros where they cannot be judged."""
    return [np.where(hidden, 0, value).astype(value.dtype, copy=False) for value in values]


def described(found: Overflow, truth: np.ndarray, tap: str, dtype: str) -> Beyond:
    """Say how many values overflow, where the first stands and what it ought to be.

    Args:
        found: from `overflow_of`; some value is beyond the format.
        truth: [...] float64.
        tap: its name.
        dtype: of the dump's tensor.
    """
    places = by_token(np.ascontiguousarray(found.format), tap)
    token = int(np.flatnonzero(places.any(axis=(0, 2)))[0])
    p, q = np.argwhere(places[:, token])[0]
    there = float(by_token(np.ascontiguousarray(truth), tap)[p, token, q])
    channel = int(q if places.shape[0] == 1 else p)
    return Beyond(int(places.sum()), token, channel, there, dtype, LARGEST[dtype])


def why_hidden(beyond: Beyond | None, unjudged: int, tokens: int) -> str:
    """Say in a sentence what was not judged, and whose fault it is."""
    if beyond:
        much = "1 value is" if beyond.count == 1 else f"{beyond.count} values are"
        limit = f"{much} beyond {beyond.format}, which ends at {WRITTEN[beyond.format]}"
        return f"{limit}: {beyond.truth:.4g} at token {beyond.token}: the format's fault, no operation's"
    return f"not judged at {unjudged} of {tokens} tokens, whose inputs are not finite"
