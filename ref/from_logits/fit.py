"""Fitting the number of a mistake: from its grid by secants, each step one run more."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ref.from_logits.candidates import Candidate
from ref.from_logits.families import FAMILIES, HORIZON, WINDOW
from ref.from_logits.parameters import Family, candidate_of
from ref.from_logits.runs import Text
from ref.from_logits.score import squares
from ref.from_logits.trial import Measures, Tried
from ref.hypotheses.hypothesis import Parameter
from ref.measure.projection import dots_of, spread_of

STEPS, SOME = 6, 6  # runs per family, families that are fitted
NEAR = 0.05  # share that a number of the grid must explain, or point along, so that its family is fitted
FAR = 10.0  # floors between two points that a slope is taken from
FINE = 1e-6  # of the number, relative: below it float32 tells no more
ROUND = 2e-3  # relative: a round number so near is tried in the place of the fitted one
REACHES = frozenset({"window", "horizon"})  # whose number is how many keys a query sees
BY_NAME = {(one.name, one.kind): one for one in [*FAMILIES, WINDOW, HORIZON]}


class Trials(Protocol):
    """What candidates are tried on: a whole model's output, or one tap."""

    text: Text
    measures: Measures

    def tell(self, total: int) -> None:
        """Say that so many candidates more are to be tried."""
        ...

    def onset(self, model: np.ndarray) -> int | None:
        """Return the position of the first token that a model has otherwise; None where it is not known."""
        ...

    def try_all(self, candidates: Sequence[Candidate]) -> list[Tried]:
        """Run candidates and score them, in their order."""
        ...


@dataclass
class _Fit:
    """A family that is being fitted: its points by their place, log or linear."""

    family: Family
    points: dict[float, Tried] = field(default_factory=dict)

    def place(self, value: float) -> float:
        return float(np.log(value)) if self.family.scale == "log" else float(value)

    def value(self, place: float) -> float:
        if self.family.scale == "integer":
            return int(place)
        return float(np.exp(place)) if self.family.scale == "log" else place

    def add(self, tried: Tried) -> None:
        self.points[self.place(tried.candidate.parameters[0].value)] = tried


def fitted(trial: Trials, tried: list[Tried]) -> list[Tried]:
    """Fit the numbers of the families that come near.

    Args:
        trial: what they are fitted to, on one half of it.
        tried: candidates of their grids.

    Returns:
        The best of each, with its standard error.
    """
    fits = _chosen(tried)
    trial.tell(len(fits) * STEPS)
    for _ in range(STEPS):
        steps = [(one, place) for one in fits if (place := _next(trial, one)) is not None]
        config = trial.text.passes[0].config
        candidates = [candidate_of(one.family, one.value(place), config) for one, place in steps]
        for (one, _), found in zip(steps, trial.try_all(candidates), strict=True):
            one.add(found)
    best = [(one, _best(trial, one)) for one in fits]
    return [_with_error(trial, one, place) for one, place in _rounded(trial, best)]


def _chosen(tried: list[Tried]) -> list[_Fit]:
    """Choose the families that point along the error, the nearest first."""
    fits: dict[tuple[str, str], _Fit] = {}
    near: dict[tuple[str, str], float] = {}
    for one in tried:
        family = BY_NAME[family_key(one)]
        if family.scale == "none":
            continue
        key = family.name, family.kind
        fits.setdefault(key, _Fit(family)).add(one)
        along = max(one.score.explains, max(one.score.along, 0.0) ** 2)
        near[key] = max(near.get(key, 0.0), along)
    order = sorted((key for key in fits if near[key] > NEAR), key=lambda key: -near[key])
    steps = [
        key for key, one in fits.items() if one.family.scale == "integer" and near[key] > 0
    ]  # near only at the end
    return [fits[key] for key in dict.fromkeys([*order[:SOME], *steps])]


def family_key(tried: Tried) -> tuple[str, str]:
    """Return the name and kind of layers of a candidate's family."""
    keys = [key for key in BY_NAME if key[0] == tried.candidate.family]
    if len(keys) == 1:
        return keys[0]
    return next(key for key in keys if f" {key[1]} layers" in tried.candidate.mutant.what)


def _best(trial: Trials, fit: _Fit) -> float:
    """Return the place of the point that leaves least of the fitted half."""
    measures = trial.measures
    return min(fit.points, key=lambda at: squares(measures.value, fit.points[at].model, measures.halves.fitted))


def _next(trial: Trials, fit: _Fit) -> float | None:
    """Return where to look next: a secant step from the best point; None where it is found."""
    measures, best = trial.measures, _best(trial, fit)
    if fit.family.scale == "integer":
        end = _end(trial, fit)
        return end if end else _between(fit, best)
    here = fit.points[best].model
    others = [(place, one.model) for place, one in fit.points.items() if place != best]
    wanted = fit.family.wanted(trial.text.passes[0].config)
    if not isinstance(wanted, str) and fit.place(wanted) not in fit.points:
        others.append((fit.place(wanted), measures.truth))
    if not others:
        return None
    place, model = min(others, key=lambda one: abs(one[0] - best))
    where = measures.halves.fitted
    with np.errstate(all="ignore"):
        change = np.where(where, (model - here) / (place - best), 0.0)
        rest = np.where(where, measures.value - here, 0.0)
        step = float((rest * change).sum() / np.square(change).sum())
    if not np.isfinite(step) or abs(step) < FINE:
        return None
    most = 2 * abs(place - best)
    # what lies beyond a neighbour is worse than it: the best is between
    gaps = [abs(at - best) for at, _ in others if (at - best) * step > 0]
    most = min([most, *(gap / 2 for gap in gaps)])
    step = float(np.clip(step, -most, most))
    return best + step if best + step not in fit.points else None


def _end(trial: Trials, fit: _Fit) -> float | None:
    """Return where a window ends: one that is wider is right up to there; None where no point tells a new place."""
    if fit.family.name not in REACHES:
        return None
    first = {place: trial.onset(one.model) for place, one in fit.points.items()}
    return max({float(at) for place, at in first.items() if at and at < place} - set(fit.points), default=None)


def _between(fit: _Fit, best: float) -> float | None:
    """Return the middle of the wider gap beside the best whole number; None where it touches both neighbours."""
    places = sorted(fit.points)
    at = places.index(best)
    gaps = [pair for pair in (places[max(0, at - 1) : at + 1], places[at : at + 2]) if len(pair) == 2]
    gaps = [(low, high) for low, high in gaps if high - low > 1]
    if not gaps:
        return None
    low, high = max(gaps, key=lambda gap: gap[1] / max(gap[0], 1.0))
    return float(round((low + high) / 2))


def _rounded(trial: Trials, best: list[tuple[_Fit, float]]) -> list[tuple[_Fit, float]]:
    """Take a round number where it leaves no more: people write 25, not 24.9998."""
    config, noise = trial.text.passes[0].config, float(trial.measures.noise.sum(where=trial.measures.halves.fitted))
    rounds = [(fit, float(f"{fit.value(place):.2g}"), place) for fit, place in best if fit.family.scale != "integer"]
    near = [(fit, value, place) for fit, value, place in rounds if _is_near(fit, value, place)]
    found = trial.try_all([candidate_of(fit.family, value, config) for fit, value, _ in near])
    out = dict((id(fit), (fit, place)) for fit, place in best)
    for (fit, value, place), one in zip(near, found, strict=True):
        where, value_known = trial.measures.halves.fitted, trial.measures.value
        left = squares(value_known, one.model, where)
        if left <= max(1.1 * squares(value_known, fit.points[place].model, where), noise):
            fit.add(one)
            out[id(fit)] = fit, fit.place(value)
    return list(out.values())


def _is_near(fit: _Fit, value: float, place: float) -> bool:
    fitted_value = fit.value(place)
    return 0 < abs(value - fitted_value) <= ROUND * abs(fitted_value) and (value > 0 or fit.family.scale == "linear")


def _with_error(trial: Trials, fit: _Fit, place: float) -> Tried:
    """Return a point with the standard error of its number, from the point nearest to it."""
    one = fit.points[place]
    where, noise = trial.measures.halves.fitted, float(trial.measures.noise.sum(where=trial.measures.halves.fitted))
    if fit.family.scale == "integer":
        return one
    # two points nearer to each other than float32's noise tell nothing of a slope; the farthest of those tell most
    away = {at: squares(found.model, one.model, where) for at, found in fit.points.items() if at != place}
    others = [at for at, square in away.items() if square > FAR**2 * noise] or sorted(away, key=lambda at: away[at])[
        -1:
    ]
    if not others:
        return one
    other = min(others, key=lambda at: abs(at - place))
    value, here, there = (x[where] for x in (trial.measures.value, one.model, fit.points[other].model))
    _, _, square = dots_of(value, here, there)
    if square == 0:
        return one
    stderr = spread_of(value, here, there, 0.0, square) * abs(fit.value(other) - fit.value(place))
    parameter: Parameter = one.candidate.parameters[0]._replace(stderr=float(stderr))
    return one._replace(candidate=one.candidate._replace(parameters=(parameter,)))
