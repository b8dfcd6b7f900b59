"""The proof: the model is run with the named mistakes planted in the truth. Do they explain the logits?"""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ref.diagnosis.causes import Cause
from ref.diagnosis.diagnose import planted_rules
from ref.emulate.arithmetic import TRUTH, Arithmetic
from ref.emulate.context import Rule
from ref.emulate.graph import Run
from ref.emulate.one_pass import Unknown
from ref.emulate.stages import Stage, prepare_stage, stage_weights, stages_of
from ref.measure.floor import LIMIT
from ref.measure.measure_logits import narrowed, some_columns
from ref.measure.measure_tap import fitted
from ref.measure.pass_runs import PassRuns, left_by
from ref.measure.tap_finding import TapFinding
from ref.model.taps import row_of

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

DRIFT = 2 * LIMIT  # floors of what is inherited that may be left
MOST_MOVES = 6  # causes of which is told what each alone moves

Planted = dict[tuple[int, str], Rule]  # (pass, tap) -> rule


class Proof(NamedTuple):
    """What is left when the named mistakes are planted."""

    verdict: str  # explained, remains, unknown
    says: str
    first: TapFinding | None  # where something else remains
    tap: str  # that it was judged at
    left: float | None  # floors of what is inherited


def planted_in(causes: list[Cause]) -> Planted:
    """Return the rules of all causes at the taps that they explain."""
    rules: Planted = {}
    for cause in causes:
        for diagnosis, evidence in zip(cause.diagnoses, cause.evidence, strict=True):
            if evidence is not None:
                number = diagnosis.finding.pass_number
                rules |= {(number, tap): rule for tap, rule in planted_rules(diagnosis, evidence).items()}
    return rules


def last_tap(findings: list[TapFinding]) -> TapFinding | None:
    """Return the last float tap of a dump, the logits where there are any."""
    floats = [one for one in findings if not row_of(one.tap).integers and one.inherited is not None]
    logits = [one for one in floats if one.tap == "text.logits"]
    return (logits or floats or [None])[-1]


class Planting:
    """The passes of a dump, run from the prompt with mistakes in the place of some operations."""

    def __init__(self, all_runs: list[PassRuns], loaded: "Loaded", held: str, at: TapFinding):
        self.all_runs, self.loaded, self.held, self.at = all_runs, loaded, held, at

    def run(self, several: list[Planted], arithmetic: Arithmetic = TRUTH) -> list[np.ndarray | None]:
        """Run with each of several sets of mistakes, all through a stage before the next.

        Returns:
            What each gives at the tap; of logits some columns. None where a value is not known.
        """
        runs = [self._runs(planted, arithmetic) for planted in several]
        out: list[np.ndarray | None] = [None] * len(several)
        for stage in self._stages():
            weights = (
                stage_weights(self.loaded, stage)
                if arithmetic.by_weight
                else prepare_stage(self.loaded, stage, self.held, arithmetic.dtype)
            )
            for number, chain in enumerate(runs):
                out[number] = self._through(chain, stage, weights, out[number])
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
        one: PassRuns | None = next(x for x in self.all_runs if x.number == self.at.pass_number)
        while one is not None:
            chain.insert(0, one)
            one = one.before
        return chain

    def _stages(self) -> list[Stage]:
        stages: dict[Stage, None] = {}
        for pass_runs in self._chain():
            stages |= dict.fromkeys(stages_of(pass_runs.one_pass))
        order = ("vision.start", "vision.layer", "vision.end", "embed", "layer", "final", "logits")
        return sorted(stages, key=lambda stage: (order.index(stage.name), stage.layer or 0))

    def _through(self, chain: dict[int, Run], stage: Stage, weights: Any, out):
        here = [run for run in chain.values() if stage in stages_of(run.one_pass)]
        for run in here:
            run.enter(stage, weights)
        last = chain[self.at.pass_number]
        if out is None and last in here and self._made_in(stage):
            with suppress(Unknown), np.errstate(all="ignore"):
                out = self._value(last)
        for run in here:
            for tap in left_by(stage):
                with suppress(Unknown), np.errstate(all="ignore"):
                    run.value(tap)
            if stage.name == "layer" and len(chain) > 1:
                with suppress(Unknown), np.errstate(all="ignore"):
                    run.history(f"text.layer.{stage.layer}.")
        for run in here:
            run.forget(left_by(stage))
        return out

    def _made_in(self, stage: Stage) -> bool:
        if self.at.tap == "text.logits":
            return stage.name == "logits"
        if self.at.tap == "text.final_norm":
            return stage.name == "final"
        if self.at.layer is None:
            return stage.name == {"text": "embed", "model": "embed"}.get(self.at.tap.split(".")[0], "vision.end")
        return bool(stage.prefix) and self.at.tap.startswith(stage.prefix)

    def _value(self, run: Run) -> np.ndarray:
        if self.at.tap != "text.logits":
            return run.value(self.at.tap)
        pass_runs = next(x for x in self.all_runs if x.number == self.at.pass_number)
        columns = some_columns(pass_runs.one_pass.text.embedding.shape[0])
        if len(columns) == pass_runs.one_pass.text.embedding.shape[0]:
            return run.value("text.logits")
        there = narrowed(pass_runs, columns)
        return run.with_pass(there.one_pass, {}).value("text.logits")

    def dumped(self) -> np.ndarray:
        """Return what the dump has there."""
        pass_runs = next(x for x in self.all_runs if x.number == self.at.pass_number)
        if self.at.tap == "text.logits":
            columns = some_columns(pass_runs.one_pass.text.embedding.shape[0])
            if len(columns) < pass_runs.one_pass.text.embedding.shape[0]:
                return narrowed(pass_runs, columns).load("text.logits").astype(np.float64)
        return pass_runs.load(self.at.tap).astype(np.float64)

    def away(self, value: np.ndarray, made: np.ndarray | None) -> float:
        """Return the relative distance of what was made from a value; infinite where nothing was."""
        if made is None:
            return float("inf")
        pass_runs = next(x for x in self.all_runs if x.number == self.at.pass_number)
        value, made, valid = fitted(pass_runs.one_pass, self.at.tap, value, made)
        if value.shape != made.shape or not np.isfinite(made).all():
            return float("inf")
        axis = row_of(self.at.tap).token_axis
        if not valid.all() and value.shape[axis] == len(valid):
            value, made = (np.compress(valid, x, axis=axis) for x in (value, made))
        norm = float(np.linalg.norm(made))
        return float(np.linalg.norm(value - made)) / norm if norm else float("inf")


def prove(
    causes: list[Cause], findings: list[TapFinding], all_runs: list[PassRuns], loaded: "Loaded", held: str
) -> tuple[Proof | None, dict[int, float]]:
    """Run the model with the named mistakes, and each of them alone.

    Args:
        causes: from `causes_of`.
        findings: at every tap.
        all_runs: the passes.
        loaded: the weights.
        held: the dtype that the producer held them in.

    Returns:
        (the proof, share of the logits' norm that each cause moves, by its number); None where nothing is named.
    """
    at, named = last_tap(findings), [i for i, one in enumerate(causes) if one.name]
    unexplained = [one for one in causes if not one.name]
    if at is None or not named:
        return None, {}
    planting = Planting(all_runs, loaded, held, at)
    alone = named[:MOST_MOVES] if len(named) > 1 else []
    sets: list[Planted] = [planted_in([causes[i] for i in named]), {}, *(planted_in([causes[i]]) for i in alone)]
    made = planting.run(sets)
    value = planting.dumped()
    left, before = (planting.away(value, one) for one in made[:2])
    truth = made[1]
    moves = (
        {}
        if truth is None
        else {i: planting.away(one, truth) for i, one in zip(alone, made[2:], strict=True) if one is not None}
    )
    if len(named) == 1 and truth is not None and made[0] is not None:
        moves = {named[0]: planting.away(made[0], truth)}
    floor = at.floor or 0.0
    if floor and left > DRIFT * floor:
        floor = max(floor, _noise(planting, sets[0], made[0]))
    ratio = left / floor if floor else float("inf") if left else 0.0
    first = unexplained[0].diagnoses[0].finding if unexplained else None
    return _said(at, ratio, before / floor if floor else None, first), moves


def _noise(planting: Planting, planted: Planted, made: np.ndarray | None) -> float:
    """Return how far valid runs of the same mistakes are from them: some mistakes make noise larger."""
    if made is None:
        return 0.0
    pass_runs = next(x for x in planting.all_runs if x.number == planting.at.pass_number)
    distances = [
        planting.away(one, made)
        for like in pass_runs.owns[:2]
        for one in planting.run([planted], like.arithmetic)
        if one is not None
    ]
    return max((one for one in distances if np.isfinite(one)), default=0.0)


def _said(at: TapFinding, ratio: float, before: float | None, first: TapFinding | None) -> Proof:
    what = "the logits" if at.tap == "text.logits" else f"{at.tap}, the last tap of the dump"
    if not np.isfinite(ratio):
        return Proof("unknown", f"the named mistakes could not be run to {at.tap}", first, at.tap, None)
    was = "" if before is None or not np.isfinite(before) else f", {before:.3g} without them"
    if ratio <= DRIFT and first is None:
        return Proof("explained", f"these explain {what}: {ratio:.2f} floors are left{was}", None, at.tap, ratio)
    where = f", first at {first.tap} (pass {first.pass_number})" if first else ""
    return Proof(
        "remains", f"something else remains{where}: {ratio:.3g} floors of {what} are left{was}", first, at.tap, ratio
    )


def as_json(proof: Proof | None) -> Mapping[str, Any] | None:
    """Return a proof as a part of the report."""
    if proof is None:
        return None
    first = proof.first
    place = first and {"tap": first.tap, "layer": first.layer, "pass": first.pass_number}
    return {"verdict": proof.verdict, "says": proof.says, "first": place, "tap": proof.tap, "left": proof.left}
