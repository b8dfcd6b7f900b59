"""How much of an answer's distance from the truth a candidate explains, and what is left of it in noise floors."""

from typing import NamedTuple

import numpy as np


class Score(NamedTuple):
    """What a candidate makes of an answer."""

    explains: float  # 1 - ||y - m||^2 / ||y - t||^2, of all that is known
    heldout: float  # the same of the half that nothing was fitted to
    along: float  # cosine of y - t and m - t, on the half that is fitted: a number near the right one has it near 1
    left: float  # what is left of the held-out half, in floors


class Halves(NamedTuple):
    """Two halves of what is known: one that parameters are fitted to, one held out."""

    fitted: np.ndarray  # [R, C] bool
    heldout: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Halves":
        """Split by tokens, every other one; of a single token by its values."""
        known = np.isfinite(values)
        row, column = np.indices(values.shape)
        odd = (row if np.flatnonzero(known.any(axis=1)).size > 1 else column) % 2 == 1
        return cls(known & ~odd, known & odd)


def squares(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    """Return the squared distance of two answers over what is known.

    Args:
        a, b: [R, C].
        where: [R, C] bool.
    """
    with np.errstate(all="ignore"):
        error = float(np.square(a - b, dtype=np.float64).sum(where=where))
    return error if np.isfinite(error) else float("inf")


def score(value: np.ndarray, truth: np.ndarray, model: np.ndarray, noise: float, halves: Halves) -> Score:
    """Measure a candidate.

    Args:
        value: y, [R, C] the answer.
        truth: t, what the model without a mistake gives.
        model: m, what the candidate gives.
        noise: squared distance of the worst valid run on the held-out half.
        halves: of what is known.
    """
    known = halves.fitted | halves.heldout
    rest = squares(value, model, halves.heldout)
    return Score(
        explains=_share(squares(value, model, known), squares(value, truth, known)),
        heldout=_share(rest, squares(value, truth, halves.heldout)),
        along=_along(value - truth, model - truth, halves.fitted),
        left=in_floors(rest, noise),
    )


def in_floors(square: float, noise: float) -> float:
    """Return a distance in floors; both are squared."""
    if square == 0:
        return 0.0
    return float(np.sqrt(square / noise)) if noise > 0 else float("inf")


def _share(left: float, before: float) -> float:
    if before == 0:
        return 0.0
    return float(1 - left / before) if np.isfinite(left) else float("-inf")


def _along(error: np.ndarray, change: np.ndarray, where: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        error, change = np.where(where, error, 0), np.where(where, change, 0)
        size = float(np.sqrt(np.square(error).sum() * np.square(change).sum()))
        cosine = float((error * change).sum()) / size if size > 0 else 0.0
    return cosine if np.isfinite(cosine) else 0.0
