"""Diagnosis by executed hypotheses: which known mistake makes the value that a dump has."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ref.emulate.arithmetic import Arithmetic
from ref.emulate.context import Rule, as_seen
from ref.emulate.graph import Run
from ref.emulate.one_pass import Unknown
from ref.hypotheses.hypothesis import Hypothesis
from ref.measure.distance import Errors, distance_of, errors_of, sums_of
from ref.measure.floor import LIMIT, Floor, floor_of, in_floors
from ref.measure.measure_logits import narrowed, some_columns
from ref.measure.measure_tap import Measured, fitted
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.measure.projection import dots_of, spread_of
from ref.model.taps import row_of, tap_group
from ref.mutants import tap_mutants
from ref.mutants.base import TapMutant

MOST_LEFT = 8.0  # floors that a fitted mistake may leave of a large error
NEAR = 0.2  # a coefficient within so much of 1 makes a mutant worth a floor of its own


class Evidence(NamedTuple):
    """What one mutant, run on a dump's own inputs, says of one tap."""

    mutant: TapMutant
    tap: str
    number: int  # of the pass
    coefficient: float
    stderr: float
    left: float  # distance of the dump from the mutant, in floors of the mutant
    power: float  # distance of the mutant from the truth, in floors: how much there is to see
    value: np.ndarray | None  # of the mutant; None once classes are told apart
    before: float  # distance of the dump from the truth, in floors
    hypothesis: Hypothesis | None = None  # with its parameters; None: of the catalogue

    @property
    def explains(self) -> bool:
        """Tell whether the mistake leaves noise only, or next to nothing of a large error.

        Next to nothing is less for what was fitted: a scale alone makes many errors smaller.
        """
        most = MOST_LEFT if self.hypothesis else float("inf")
        return self.left <= LIMIT or (self.left <= min(self.before / 50, most) and abs(self.coefficient - 1) < 0.02)

    @property
    def free(self) -> int:
        """How many numbers were fitted."""
        return self.hypothesis.free if self.hypothesis else 0

    @property
    def key(self) -> tuple[Any, ...]:
        """What the evidence of one cause has in common."""
        return self.hypothesis.key if self.hypothesis else (self.mutant.name, (), "")


def project(value: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """Project an error on the direction of a mistake.

        c = <y - truth, mutant - truth> / ||mutant - truth||^2,    stderr as `spread_of`

    Args:
        value: y, [...] what a dump has.
        truth: [...] what it should be.
        wrong: [...] what the mutant gives.

    Returns:
        (c, its standard error): c is about 1 for this mistake, about 0 without it; (0, inf) where it changes nothing.

    Source: the matched filter of signal detection; it finds what lies below the noise of single values.
    """
    along, _, square = dots_of(value, truth, wrong)
    if square == 0:
        return 0.0, float("inf")
    c = along / square
    return c, spread_of(value, truth, wrong, c, square)


def beside(pass_runs: PassRuns, like: Run, arithmetic: Arithmetic, rules: Mapping[str, Rule] | None = None) -> Run:
    """Return a run that knows a dump's values and what earlier stages left, as another does, and computes otherwise."""
    run = Run(pass_runs.one_pass, arithmetic, like.given, like.before, rules, like.heard)
    run.prefix, run.weights = like.prefix, like.weights
    run.memo = {name: value for name, value in like.memo.items() if like.is_given(name) or name in pass_runs.carried}
    return run


def mutated(pass_runs: PassRuns, like: Run, mutant: TapMutant, tap: str) -> np.ndarray | None:
    """Run a mutant on a dump's own inputs to a tap, in the arithmetic of a run; None where it has no part in it."""
    run = beside(pass_runs, like, like.arithmetic, mutant.rules)
    try:
        with np.errstate(all="ignore"):
            value, _ = run.recompute(tap)
    except Unknown:
        return None
    return value if run.used else None


def prepared(pass_runs: PassRuns, tap: str) -> PassRuns:
    """Return the runs that a tap's mutants run beside: of the logits only some columns."""
    if tap != "text.logits":
        return pass_runs
    columns = some_columns(pass_runs.one_pass.text.embedding.shape[0])
    return pass_runs if len(columns) == pass_runs.one_pass.text.embedding.shape[0] else narrowed(pass_runs, columns)


def compare_with(pass_runs: PassRuns, mutant: TapMutant, tap: str, found: Measured) -> Evidence | None:
    """Run one mutant and measure the dump against it; None where it does not apply or changes nothing."""
    value, truth, floor = found.value, found.truth, found.floor
    wrong = mutated(pass_runs, pass_runs.local, mutant, tap)
    if wrong is None or value is None or truth is None or floor is None or found.finding.overflow:
        return None
    if row_of(tap).is_visibility:
        return _compare_seen(pass_runs, mutant, tap, found, wrong)
    _, wrong, valid = fitted(pass_runs.one_pass, tap, value, wrong)
    if wrong.shape != value.shape or not np.isfinite(wrong).all():
        return None
    c, stderr = project(*(without_pads(x, valid, tap) for x in (value, truth, wrong)))
    if stderr == np.inf:
        return None
    own = floor
    if abs(c - 1) < NEAR:
        own = mutant_floor(pass_runs, mutant, tap, found, wrong, valid)
    left = own.ratio(distance_of(value, wrong, tap, valid))
    power = floor.ratio(distance_of(wrong, truth, tap, valid))
    return Evidence(mutant, tap, pass_runs.number, c, stderr, left, power, wrong, found.finding.local_ratio or 0.0)


def mutant_floor(
    pass_runs: PassRuns, mutant: TapMutant, tap: str, found: Measured, wrong: np.ndarray, valid: np.ndarray
) -> Floor:
    """Measure how far valid runs of the same mistake are from it: some mistakes make noise larger."""

    def errors(run: Run) -> Errors | None:
        value = mutated(pass_runs, run, mutant, tap)
        if value is None or found.value is None:
            return None
        return errors_of(sums_of(fitted(pass_runs.one_pass, tap, found.value, value)[1], wrong, tap, valid))

    with np.errstate(all="ignore"):
        runs = [one for one in side_by_side(errors, pass_runs.locals) if one]
        return floor_of(runs, wrong, found.finding.dtype, tap, valid)


def _compare_seen(pass_runs: PassRuns, mutant: TapMutant, tap: str, found: Measured, wrong) -> Evidence | None:
    """Compare what is visible: a mutant explains it all or does not."""
    value, truth = found.value, found.truth
    assert value is not None
    assert truth is not None
    keys, total = value.shape[-1], pass_runs.one_pass.total
    wrong = as_seen(wrong, keys, total - keys, total)[:, pass_runs.one_pass.valid].astype(np.float64)
    if np.array_equal(wrong, truth):
        return None
    c, stderr = project(value, truth, wrong)
    left = in_floors(float((wrong != value).mean()), 0.0)
    return Evidence(mutant, tap, pass_runs.number, c, stderr, left, float("inf"), wrong, 0.0)


def without_pads(x: np.ndarray, valid: np.ndarray, tap: str) -> np.ndarray:
    """Return a value's tokens that are no padding."""
    if valid.all():
        return x
    return np.compress(valid, x, axis=row_of(tap).token_axis)


def candidates(tap: str, span: Iterable[str]) -> list[TapMutant]:
    """List the mutants that stand in an operation on the way to a tap."""
    groups = {tap_group(name) for name in (tap, *span)}
    return [one for one in tap_mutants().values() if groups & set(one.rules)]


def compare_hypothesis(pass_runs: PassRuns, one: Hypothesis, tap: str, found: Measured) -> Evidence | None:
    """Run one mistake with its parameters, as `compare_with`."""
    evidence = compare_with(pass_runs, one.mutant, tap, found)
    return evidence._replace(hypothesis=one) if evidence and (one.parameters or one.free) else evidence
