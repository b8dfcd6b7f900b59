"""Stages judged one after the other, in this process."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ref.emulate.stages import Stage
from ref.judge.boundary import Boundary, part_of
from ref.judge.case import Case
from ref.judge.jobs import Job, Names
from ref.judge.shard import Shard, ShardRow, judge_stage, pass_through
from ref.judge.store import Store


class Judged(NamedTuple):
    """A stage that was judged by itself."""

    rows: Sequence[ShardRow]
    boundary: Callable[[], Boundary]  # what the stage before left
    made: tuple[int, ...]  # numbers of the valid runs from the prompt that it is of


class InTurn:
    """Judges the stages of a case one after the other.

    Args:
        case: dump and weights.
        names: the same by names; None without a store.
        store: of stages that were judged earlier.
    """

    def __init__(self, case: Case, names: Names | None = None, store: Store | None = None):
        self.case, self.names, self.store = case, names, store
        self.boundary: Boundary = {}  # what the stage before left
        self.made = case.all_runs[0].few if case.all_runs else ()

    def judged(self, stage: Stage, shown: Collection[str]) -> Judged:
        """Judge the next stage.

        Args:
            stage: which.
            shown: names of mutants that have shown already.
        """
        if not self.case.follows(stage):
            self.boundary = {}
        shard = self._judge(stage, shown)
        if shard.unsettled and self.made != self.case.all_runs[0].full:
            self.boundary |= self._spare(stage)
            self.made = self.case.all_runs[0].full
            shard = self._judge(stage, shown)
        before, self.boundary = self.boundary, shard.left
        return Judged(shard.rows, lambda: before, self.made)

    def correct(self, stage: Stage, left: Boundary) -> None:
        """Go on behind a stage with another boundary than it left."""
        self.boundary = left

    def _spare(self, stage: Stage) -> Boundary:
        """Bring the runs from the prompt that were not made to a stage."""
        spare = [lane for lane in self.case.all_runs[0].full if lane not in self.made]
        boundary: Boundary = {}
        for earlier in self.case.stages[: self.case.stages.index(stage)]:
            boundary = boundary if self.case.follows(earlier) else {}
            boundary = self._pass(earlier, boundary, tuple(spare))
        return {key: value for key, value in boundary.items() if part_of(key) == "own"}

    def _judge(self, stage: Stage, shown: Collection[str]) -> Shard:
        job = self._job(stage, self.made, None)
        known = self.store.get(job) if self.store and job else None
        shard = known or judge_stage(self.case, stage, self.boundary, self.made, shown=shown)
        if self.store and job and not known:
            self.store.put(job, shard)
        return shard

    def _pass(self, stage: Stage, boundary: Boundary, lanes: tuple[int, ...]) -> Boundary:
        job = self._job(stage, lanes, lanes)
        known = self.store.get(job) if self.store and job else None
        shard = known or Shard((), pass_through(self.case, stage, boundary, lanes, lanes))
        if self.store and job and not known:
            self.store.put(job, shard)
        return shard.left

    def _job(self, stage: Stage, made: tuple[int, ...], lanes: tuple[int, ...] | None) -> Job | None:
        sequences = tuple(range(len(self.case.chains)))
        return self.names and Job(self.names, stage, sequences, made, lanes, leave=lanes is None)
