"""Mistakes below the noise floor: subtle mutants are looked for in taps that match, over all layers together."""

from typing import Any, NamedTuple

import numpy as np

from ref.model.taps import tap_group
from ref.verify.at_tap import Measured, fitted
from ref.verify.bench import Bench
from ref.verify.diagnose import mutated, project
from ref.verify.floor import LIMIT
from ref.verify.measure import distance_of
from ref.verify.mutants import tap_mutants
from ref.verify.mutants.base import TapMutant
from ref.verify.parallel import side_by_side

SIGMAS = 6.0  # standard errors that a coefficient must be away from 0: hundreds of taps are tried
SLACK = 0.3  # by which it may miss 1, beside its standard errors


class Trace(NamedTuple):
    """What a subtle mutant's projection found at one tap."""

    tap: str
    number: int
    coefficient: float  # less that of valid runs
    stderr: float  # with the spread of valid runs


class Hidden:
    """Collects projections of subtle mutants over the taps that match."""

    def __init__(self) -> None:
        self.traces: dict[str, list[Trace]] = {}

    def listen(self, bench: Bench, tap: str, found: Measured) -> None:
        """Look for every subtle mutant at a tap that matches and whose truth is known."""
        if found.row["verdict"] != "match" or found.value is None or tap == "text.logits":
            return
        here = [one for one in tap_mutants().values() if one.subtle and tap_group(tap) in one.rules]
        traces = side_by_side(lambda mutant: self._look(bench, mutant, tap, found), here)
        for mutant, trace in zip(here, traces, strict=True):
            if trace:
                self.traces.setdefault(mutant.name, []).append(trace)

    def _look(self, bench: Bench, mutant: TapMutant, tap: str, found: Measured) -> Trace | None:
        value, truth, floor = found.value, found.truth, found.floor
        wrong = mutated(bench, bench.local, mutant, tap)
        if wrong is None or value is None or truth is None or floor is None:
            return None
        _, wrong, valid = fitted(bench.world, tap, value, wrong)
        if not valid.all() or wrong.shape != value.shape or not np.isfinite(wrong).all():
            return None
        c, stderr = project(value, truth, wrong)
        if stderr == np.inf:
            return None
        if floor.ratio(distance_of(wrong, truth, tap, valid)) > 2 * LIMIT:
            return None  # with it the tap would not have matched
        runs = (fitted(bench.world, tap, value, run)[1] for run in found.runs)
        biases = [project(run, truth, wrong)[0] for run in runs]
        bias, spread = float(np.mean(biases)), float(np.ptp(biases)) / 2
        stderr = float(np.hypot(stderr, spread))
        # without any noise, as after a softmax over one key, the format cannot hold the difference: that says nothing
        return Trace(tap, bench.number, c - bias, stderr) if stderr else None

    def found(self) -> list[dict[str, Any]]:
        """Return a row of the report for each mutant that is there: in one tap, or in all taps together."""
        rows = []
        for name, traces in self.traces.items():
            alone = [one for one in traces if _is_there(one.coefficient, one.stderr)]
            absent = any(one.coefficient + SIGMAS / 2 * one.stderr < 1 - SLACK for one in traces)
            weights = np.array([1 / one.stderr**2 for one in traces])
            mean = float(np.sum(weights * [one.coefficient for one in traces]) / weights.sum())
            stderr = float(weights.sum() ** -0.5)
            if not absent and _is_there(mean, stderr):
                rows.append(_row(name, traces[0], mean, stderr, [one.tap for one in traces]))
            elif alone:
                best = min(alone, key=lambda one: one.stderr)
                rows.append(_row(name, best, best.coefficient, best.stderr, [one.tap for one in alone]))
        return sorted(rows, key=lambda row: abs(row["coefficient"] - 1))


def _is_there(c: float, stderr: float) -> bool:
    return c > SIGMAS * stderr and abs(c - 1) < SLACK + 3 * stderr


def _row(name: str, where: Trace, c: float, stderr: float, taps: list[str]) -> dict[str, Any]:
    m = tap_mutants()[name]
    head = {"mutant": name, "what": m.what, "source": m.source, "needs": m.needs}
    numbers = {"coefficient": c, "stderr": stderr, "left": None, "class": 0, "verdict": "named"}
    return head | numbers | {"tap": where.tap, "pass": where.number, "hidden": True, "taps": taps}
