"""Mistakes below the noise floor: subtle mutants are looked for in taps that match, over all layers together."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ref.diagnosis.evidence import mutated, project
from ref.measure.distance import distance_of
from ref.measure.floor import LIMIT
from ref.measure.measure_tap import Measured, fitted
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.model.taps import tap_group
from ref.mutants import tap_mutants
from ref.mutants.base import TapMutant, describe

SIGMAS = 6.0  # standard errors that a coefficient must be away from 0: hundreds of taps are tried
# the same where valid runs give twice as many taps bit for bit: without the mistake this one would be equal, too
SIGMAS_EXACT, EXACT, QUIET = 4.0, 2, 0.05
SLACK = 0.3  # by which it may miss 1, beside its standard errors
# where ways to round disagree about it: how near 1 it must be for one of them, and how well that one must fit all taps
CLOSE, FITS = 0.05, 3.0
DECIDE = 16.0  # values that must carry a mistake for one tap to prove it: the error of fewer has heavy tails


class Seen(NamedTuple):
    """A mutant's coefficient as seen by the valid runs that round alike."""

    coefficient: float  # less that of the runs
    stderr: float  # with their spread

    def is_there(self, sigmas: float) -> bool:
        """Tell whether it is so many standard errors away from 0."""
        return self.coefficient > sigmas * self.stderr

    @property
    def is_quiet(self) -> bool:
        """Tell whether a valid run gives the dump's value, next to bit for bit."""
        return abs(self.coefficient) + self.stderr < QUIET

    @property
    def is_one(self) -> bool:
        """Tell whether it may be 1."""
        return abs(self.coefficient - 1) < SLACK + 3 * self.stderr


class Projection(NamedTuple):
    """What a subtle mutant's projection found at one tap."""

    tap: str
    number: int
    seen: dict[tuple[str, ...], Seen]  # by how the runs round: a producer rounds as some of them, nobody knows which
    values: float  # how many carry it: (sum d^2)^2 / sum d^4


Looked = tuple[tuple[str, Projection | None], ...]  # by mutant


class BelowFloor:
    """Collects projections of subtle mutants over the taps that match."""

    def __init__(self) -> None:
        self.projections: dict[str, list[Projection]] = {}
        self.exact: Counter[str] = Counter()  # by mutant: taps that valid runs give bit for bit

    def take(self, looked: Looked) -> None:
        """Take note of what was found at one tap; taps come in the order of execution."""
        for name, projection in looked:
            if projection is None:
                self.exact[name] += 1
            else:
                self.projections.setdefault(name, []).append(projection)

    def found(self) -> list[dict[str, Any]]:
        """Return a row of the report for each mutant that is there: in one tap, or in all taps together."""
        rows = []
        for name, projections in self.projections.items():
            sigmas = SIGMAS_EXACT if self.exact[name] >= EXACT * len(projections) else SIGMAS
            alone = [one for one in projections if one.values >= DECIDE and _is_there(one.seen, sigmas)]
            together = _together(projections)
            told = _is_there(together, SIGMAS) or _is_told(projections, together)
            if not self.exact[name] and not any(map(_is_absent, projections)) and told:
                rows.append(_row(name, projections[0], _nearest(together), projections))
            elif alone:
                best = min(alone, key=lambda one: _nearest(one.seen).stderr)
                rows.append(_row(name, best, _nearest(best.seen), alone))
        return sorted(rows, key=lambda row: abs(row["coefficient"] - 1))


def look_below(pass_runs: PassRuns, tap: str, found: Measured) -> Looked:
    """Look for every subtle mutant at a tap that matches and whose truth is known.

    Returns:
        (name, projection) of each that could be seen; None in its place where the format cannot hold the difference,
        or it is not there: neither is to be averaged.
    """
    finding = found.finding
    if finding.verdict != "match" or finding.overflow or found.value is None or tap == "text.logits":
        return ()
    here = [one for one in tap_mutants().values() if one.subtle and not one.wide and tap_group(tap) in one.rules]
    projections = side_by_side(lambda mutant: _look(pass_runs, mutant, tap, found), here)
    return tuple(
        (mutant.name, None if any(one.is_quiet for one in projection.seen.values()) else projection)
        for mutant, projection in zip(here, projections, strict=True)
        if projection
    )


def _look(pass_runs: PassRuns, mutant: TapMutant, tap: str, found: Measured) -> Projection | None:
    value, truth, floor = found.value, found.truth, found.floor
    wrong = mutated(pass_runs, pass_runs.local, mutant, tap)
    if wrong is None or value is None or truth is None or floor is None:
        return None
    _, wrong, valid = fitted(pass_runs.one_pass, tap, value, wrong)
    if not valid.all() or wrong.shape != value.shape or not np.isfinite(wrong).all():
        return None
    if np.array_equal(wrong, truth):
        return None
    if floor.ratio(distance_of(wrong, truth, tap, valid)) > 2 * LIMIT:
        return None  # with it the tap would not have matched
    change = wrong - truth
    by_rounding: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for like, run in zip(pass_runs.locals, _every_run(pass_runs, tap, found), strict=True):
        own = fitted(pass_runs.one_pass, tap, value, run)[1]
        by_rounding.setdefault(like.arithmetic.rounding, []).append(project(value, own, own + change))
    alone = project(value, truth, wrong)[1]
    seen = {key: _mean(pairs, alone) for key, pairs in by_rounding.items()}
    return Projection(tap, pass_runs.number, seen, _carried_by(change))


def _every_run(pass_runs: PassRuns, tap: str, found: Measured) -> Sequence[np.ndarray]:
    """Return what every valid run has at a tap; it may have been measured with few."""
    if len(found.runs) == len(pass_runs.locals):
        return found.runs
    return side_by_side(lambda run: run.recompute(tap)[0], pass_runs.locals)


def _mean(pairs: list[tuple[float, float]], alone: float) -> Seen:
    """Average what the dump has beside each of several runs that round alike, with their spread as an error.

    Without the mistake both round alike, and the error is that beside a run; with it each rounds for itself, and the
    error is that beside the truth (`alone`): the smaller of both.
    """
    c, stderr = np.array(pairs).T
    return Seen(float(c.mean()), float(np.hypot(min(alone, stderr.mean()), np.ptp(c) / 2)))


def _carried_by(d: np.ndarray) -> float:
    square = d.reshape(-1) ** 2
    return float(square.sum() ** 2 / max(float(square @ square), 1e-300))


def _is_there(seen: dict[tuple[str, ...], Seen], sigmas: float) -> bool:
    """Tell whether a mistake shows whatever way the producer rounds, and is whole for one of them."""
    return all(one.is_there(sigmas) for one in seen.values()) and any(one.is_one for one in seen.values())


def _is_told(projections: list[Projection], together: dict[tuple[str, ...], Seen]) -> bool:
    """Tell whether one way to round gives every tap with the mistake, closely, and none gives them without it.

    Ways to round can differ by more than a mistake, and along it: beside some of them its coefficient is below 0.
    """
    key = min(together, key=lambda key: abs(together[key].coefficient - 1))
    one = together[key]
    close = one.is_there(SIGMAS) and abs(one.coefficient - 1) < CLOSE + 3 * one.stderr
    return (
        close
        and _misfit(projections, key, 1.0) < FITS
        and all(_misfit(projections, key, 0.0) > SIGMAS for key in together)
    )


def _misfit(projections: list[Projection], key: tuple[str, ...], wanted: float) -> float:
    """Return how much worse than by chance one coefficient fits all taps, in standard deviations of chi squared."""
    square = sum(((one.seen[key].coefficient - wanted) / one.seen[key].stderr) ** 2 for one in projections)
    return (square - len(projections)) / (2 * len(projections)) ** 0.5


def _is_absent(projection: Projection) -> bool:
    return all(one.coefficient + SIGMAS / 2 * one.stderr < 1 - SLACK for one in projection.seen.values())


def _together(projections: list[Projection]) -> dict[tuple[str, ...], Seen]:
    """Average over taps, each by its own certainty; where they scatter more than that, the error is what they scatter.

    Source: Birge 1932, the ratio by which the Particle Data Group scales errors.
    """
    out = {}
    for key in projections[0].seen:
        ones = [projection.seen[key] for projection in projections]
        weights = np.array([one.stderr**-2 for one in ones])
        mean = float(np.sum(weights * [one.coefficient for one in ones]) / weights.sum())
        apart = np.sum(weights * (np.array([one.coefficient for one in ones]) - mean) ** 2) / max(1, len(ones) - 1)
        out[key] = Seen(mean, float(weights.sum() ** -0.5 * max(1.0, apart) ** 0.5))
    return out


def _nearest(seen: dict[tuple[str, ...], Seen]) -> Seen:
    return min(seen.values(), key=lambda one: abs(one.coefficient - 1))


def _row(name: str, where: Projection, seen: Seen, projections: list[Projection]) -> dict[str, Any]:
    numbers = {"coefficient": seen.coefficient, "stderr": seen.stderr, "left": None, "class": 0, "verdict": "named"}
    places = {"taps": [one.tap for one in projections], "passes": [one.number for one in projections]}
    return describe(tap_mutants()[name]) | numbers | {"tap": where.tap, "pass": where.number, "hidden": True} | places
