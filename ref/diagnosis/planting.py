"""Planting: the model is run from the prompt with mistakes in the place of some operations."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ref.diagnosis.causes import Cause
from ref.diagnosis.diagnose import Diagnosis
from ref.diagnosis.evidence import Evidence, prepared
from ref.emulate.arithmetic import TRUTH, Arithmetic
from ref.emulate.context import Rule
from ref.emulate.graph import Run
from ref.emulate.one_pass import Unknown
from ref.emulate.stages import Stage, in_order, stages_of, taps_of, weights_for
from ref.measure.measure_tap import fitted
from ref.measure.pass_runs import PassRuns, left_by
from ref.measure.tap_finding import TapFinding
from ref.model.taps import row_of, tap_group

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

Planted = dict[tuple[int, str], Rule]  # (pass, tap) -> rule


def planted_in(causes: list[Cause]) -> Planted:
    """Return the rules of all causes at the taps that they explain."""
    rules: Planted = {}
    for cause in causes:
        for diagnosis, evidence in zip(cause.diagnoses, cause.evidence, strict=True):
            if evidence is not None:
                number = diagnosis.finding.pass_number
                rules |= {(number, tap): rule for tap, rule in _planted_rules(diagnosis, evidence).items()}
    return rules


def _planted_rules(diagnosis: Diagnosis, evidence: Evidence) -> dict[str, Rule]:
    """Return tap -> rule of what explains a tap: there, and on the way to it as far as the dump does not show it."""
    taps = (diagnosis.finding.tap, *diagnosis.finding.span)
    return {tap: evidence.mutant.rules[tap_group(tap)] for tap in taps if tap_group(tap) in evidence.mutant.rules}


class Planting:
    """The passes of a dump, run from the prompt with mistakes in the place of some operations."""

    def __init__(self, all_runs: list[PassRuns], loaded: "Loaded", held: str, at: TapFinding):
        self.loaded, self.held, self.at = loaded, held, at
        self.there = next(one for one in all_runs if one.number == at.pass_number)

    def run(self, several: list[Planted], arithmetic: Arithmetic = TRUTH) -> list[np.ndarray | None]:
        """Run with each of several sets of mistakes, all through a stage before the next.

        Returns:
            What each gives at the tap; of logits some columns. None where a value is not known.
        """
        runs = [self._runs(planted, arithmetic) for planted in several]
        out: list[np.ndarray | None] = [None] * len(several)
        for stage in in_order(stage for pass_runs in self._chain() for stage in stages_of(pass_runs.one_pass)):
            weights = weights_for(self.loaded, stage, self.held, arithmetic)
            for number, chain in enumerate(runs):
                out[number] = self._through(chain, stage, weights, out[number])
            if all(one is not None for one in out):  # what lies behind the tap tells nothing more
                break
        return out

    def _runs(self, planted: Planted, arithmetic: Arithmetic) -> dict[int, Run]:
        runs: dict[int, Run] = {}
        for pass_runs in self._chain():
            rules = {tap: rule for (number, tap), rule in planted.items() if number == pass_runs.number}
            before = runs[pass_runs.before.number] if pass_runs.before else None
            runs[pass_runs.number] = Run(pass_runs.one_pass, arithmetic, {}, before, rules)
        return runs

    def _chain(self) -> list[PassRuns]:
        chain: list[PassRuns] = []
        one: PassRuns | None = self.there
        while one is not None:
            chain.insert(0, one)
            one = one.before
        return chain

    def _through(self, chain: dict[int, Run], stage: Stage, weights: Any, out):
        here = [run for run in chain.values() if stage in stages_of(run.one_pass)]
        for run in here:
            run.enter(stage, weights)
        last = chain[self.at.pass_number]
        if out is None and last in here and self.at.tap in taps_of(stage, True, True):
            with suppress(Unknown), np.errstate(all="ignore"):
                out = self._value(last)
        for run in here:
            for tap in left_by(stage):
                with suppress(Unknown), np.errstate(all="ignore"):
                    run.value(tap)
            if stage.name == "layer" and len(chain) > 1:
                with suppress(Unknown), np.errstate(all="ignore"):
                    run.history(stage.prefix)
        for run in here:
            run.forget(left_by(stage))
        return out

    def _value(self, run: Run) -> np.ndarray:
        there = prepared(self.there, self.at.tap)
        run = run if there is self.there else run.with_pass(there.one_pass, {})
        return run.value(self.at.tap)

    def dumped(self) -> np.ndarray:
        """Return what the dump has there; of logits some columns."""
        return prepared(self.there, self.at.tap).load(self.at.tap).astype(np.float64)

    def away(self, value: np.ndarray, made: np.ndarray | None) -> float:
        """Return the relative distance of what was made from a value; infinite where nothing was."""
        if made is None:
            return float("inf")
        value, made, valid = fitted(self.there.one_pass, self.at.tap, value, made)
        if value.shape != made.shape or not np.isfinite(made).all():
            return float("inf")
        axis = row_of(self.at.tap).token_axis
        if not valid.all() and value.shape[axis] == len(valid):
            value, made = (np.compress(valid, x, axis=axis) for x in (value, made))
        norm = float(np.linalg.norm(made))
        return float(np.linalg.norm(value - made)) / norm if norm else float("inf")
