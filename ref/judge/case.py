"""What one judgement works on: a dump, the weights, and the runs of its passes in one arithmetic."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ref.dump.opened import Dump, DumpPass
from ref.emulate.arithmetic import emulate
from ref.emulate.narrow_truth import NARROW_TRUTH
from ref.emulate.one_pass import OnePass, pass_of
from ref.emulate.policy import members_of
from ref.emulate.stages import Stage, in_order, prepare_stage, stage_weights, stages_of, taps_of, widened_stage
from ref.judge.choice import ALL, Choice
from ref.measure.pass_runs import PassRuns
from ref.model.taps import row_of
from ref.ops.visibility import Composition


class Question(NamedTuple):
    """What is judged, and by what."""

    dump: Dump
    loaded: Any
    held: str  # the dtype that the producer held its weights in
    composition: Composition
    progress: Any = None  # called with a number of done and of all taps
    memory: str | int | None = None  # that may be used; None: what is available
    choice: Choice = ALL  # which part of the dump


Chain = list[PassRuns]  # a first pass and those that continue it: a sequence


class Case:
    """A question with the runs that answer it; they are used one stage after the other.

    Args:
        question: what is judged.
        family: whose runs make the floors: a key of FAMILIES or POLICIES.
    """

    def __init__(self, question: Question, family: str):
        self.question, self.family = question, family
        self.all_runs = _runs_of_passes(question, family)
        self.chains = chains_of(self.all_runs)
        for chain in self.chains:
            given = any(map(_has_inputs, chain))
            for pass_runs in chain:
                pass_runs.is_given = given
        self._ways = {id(chain): self._stages(chain) for chain in self.chains}
        self._whole = in_order({stage for stages in self._ways.values() for stage in stages})
        self.stages = [stage for number, stage in enumerate(self._whole) if self._is_visited(number, stage)]
        self._kept: tuple[Stage | None, dict[str, Any]] = None, {}  # weights of the newest stage

    def here(self, stage: Stage, sequences: tuple[int, ...] | None = None) -> list[tuple[int, Chain]]:
        """List the sequences that go through a stage, each with its passes that have a part in it.

        Args:
            stage: which. A pass without images has no part in the tower's.
            sequences: numbers of those that count; None: all.
        """
        return [
            (number, [one for one in chain if stage in stages_of(one.one_pass)])
            for number, chain in enumerate(self.chains)
            if stage in self._ways[id(chain)] and (sequences is None or number in sequences)
        ]

    def taps_at(self, pass_runs: PassRuns, stage: Stage) -> list[str]:
        """List the taps of a stage that are judged of a pass, in the order of execution."""
        return [tap for tap in taps_at(pass_runs, stage) if self.question.choice.has(stage, tap)]

    def follows(self, stage: Stage) -> bool:
        """Tell whether the stage before one is gone through: else nothing is known there but what the dump has."""
        number = self._whole.index(stage)
        return number == 0 or self._whole[number - 1] in self.stages

    @property
    def first_cut(self) -> str:
        """The first stage at which nothing is known from the prompt, as some before it were left out; or nothing."""
        for stage, whole in zip(self.stages, self._whole, strict=False):
            if stage != whole:
                return stage.name if stage.layer is None else f"{stage.name} {stage.layer}"
        return ""

    def _is_visited(self, number: int, stage: Stage) -> bool:
        """Tell whether a stage is gone through: it was asked for, or it is the embedding, which costs little.

        What is known of a tap in part is measured from the prompt on alone, for which nothing is left out.
        """
        is_first = stage.name == "embed" and number == 0
        return self.question.choice.covers(stage) or is_first or any(one.partial for one in self.all_runs)

    def _stages(self, chain: Chain) -> list[Stage]:
        """List the stages of a chain of passes up to the last of which a tap is judged in any of them.

        Each pass goes through all of them: a tap of a later pass needs what the earlier ones make on the way to it.
        """
        stages = in_order(stage for pass_runs in chain for stage in stages_of(pass_runs.one_pass))
        judged = (i for i, stage in enumerate(stages) if any(self.taps_at(one, stage) for one in chain))
        return stages[: max(judged, default=-1) + 1]

    def narrow_at(self, stage: Stage) -> Any:
        """Return the weights of a stage for valid runs."""
        return self._at(stage, "narrow", self._narrow)

    def wide_at(self, stage: Stage) -> Any:
        """Return the weights of a stage for runs in float64."""
        return self._at(stage, "wide", self._wide)

    def _at(self, stage: Stage, kind: str, make: Callable[[Stage], Any]) -> Any:
        """Return weights, having made them once; those of the newest stage are kept."""
        if self._kept[0] != stage:
            self._kept = stage, {}
        if kind not in self._kept[1]:
            self._kept[1][kind] = make(stage)
        return self._kept[1][kind]

    def _narrow(self, stage: Stage) -> Any:
        if self.all_runs[0].every[0].arithmetic.by_weight:
            return stage_weights(self.question.loaded, stage)
        return prepare_stage(self.question.loaded, stage, self.all_runs[0].one_pass.held, np.float32)

    def _wide(self, stage: Stage) -> Any:
        loaded, held = self.question.loaded, self.all_runs[0].one_pass.held
        if all(one.own.arithmetic is NARROW_TRUTH for one in self.all_runs):
            return widened_stage(loaded, stage, held, self.narrow_at(stage))
        return prepare_stage(loaded, stage, held, np.float64)


def taps_at(pass_runs: PassRuns, stage: Stage) -> list[str]:
    """List the taps of a stage that a dump has of a pass, in the order of execution."""
    taps = taps_of(stage, True, bool(pass_runs.one_pass.places.any()))
    return [tap for tap in taps if tap in pass_runs.stored or tap in pass_runs.partial]


def _has_inputs(pass_runs: PassRuns) -> bool:
    """Tell whether a pass has whole values that operations can be run on; what queries see is made of none."""
    return not all(row_of(tap).integers for tap in pass_runs.stored)


def chains_of(all_runs: list[PassRuns]) -> list[Chain]:
    """Group passes: each chain is a first pass and those that continue it."""
    chains: list[Chain] = []
    for pass_runs in all_runs:
        if pass_runs.before is None:
            chains.append([])
        chains[-1].append(pass_runs)
    return chains


def known_taps(one_pass: OnePass) -> set[str]:
    """List the taps that a pass of this model may have."""
    images = bool(one_pass.places.any())
    return {tap for stage in stages_of(one_pass) for tap in taps_of(stage, True, images)}


def possible_taps(one_pass: OnePass) -> set[str]:
    """List the taps that a pass of this kind has when every value is recorded."""
    cached, images = one_pass.cached > 0, bool(one_pass.places.any())
    return {tap for stage in stages_of(one_pass) for tap in taps_of(stage, cached, images)}


def _runs_of_passes(question: Question, family: str) -> list[PassRuns]:
    all_runs: list[PassRuns] = []
    members = [emulate(policy, order) for policy, order in members_of(family)]  # they share what they make of weights
    for one in question.dump.passes:
        before = all_runs[-1] if one.cached else None
        one_pass = _one_pass(one, question, before.one_pass if before else None)
        known = known_taps(one_pass)
        stored = {tap: tensor for tap, tensor in one.tensors.items() if tap in known}
        partial = {tap: shown for tap, shown in question.dump.partial.get(one.number, {}).items() if tap in known}
        all_runs.append(PassRuns(one.number, one_pass, stored, members, before, partial))
    return all_runs


def _one_pass(one: DumpPass, question: Question, before: OnePass | None) -> OnePass:
    return pass_of(
        question.loaded,
        one.ids,
        positions=one.positions,
        cached=one.cached,
        left_pads=one.left_pads,
        blocks=one.image_blocks or None,
        pixels=one.pixels,
        composition=question.composition,
        held=question.held if question.held in ("bfloat16", "float16") else "file",
        before=before,
        kept=one.kept.index if one.kept and before else None,
        moved=one.kept.moved if one.kept and before else None,
    )
