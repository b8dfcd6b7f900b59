"""Lanes: runs on their way through the stages, each by itself, and how far they have come."""

import itertools
from collections.abc import Iterable

from ref.emulate.stages import Stage, stages_of
from ref.judge.boundary import TRUTH, Boundary, bytes_of, lane_of, part_of
from ref.judge.case import Case
from ref.judge.jobs import Job, Names
from ref.judge.shard import Shard
from ref.measure.pass_runs import PassRuns, left_by


class Lane:
    """The way of one run of some sequences.

    Args:
        number: the truth's, or of a valid run.
        is_made: whether the run from the prompt goes this way.
        is_given: whether the run on the dump's own inputs does.
    """

    def __init__(self, number: int, is_made: bool, is_given: bool):
        self.number, self.is_made, self.is_given = number, is_made, is_given
        self.at, self.busy = 0, False  # the stage that it has come to, and whether it is on the way to the next
        self.known: dict[int, Boundary] = {0: {}}  # by stage

    def job(self, names: Names, stage: Stage, sequences: tuple[int, ...], threads: int) -> Job:
        """Return the job that takes it through a stage."""
        made = (self.number,) if self.is_made and self.number != TRUTH else ()
        return Job(names, stage, sequences, made, (self.number,), threads=threads)

    def come(self, at: int, left: Boundary) -> None:
        """Have come to a stage with what is known there."""
        self.at, self.busy = at, False
        self.known[at] = self._own(left)

    def sent_back(self, at: int, known: Boundary) -> None:
        """Be at a stage with other knowledge than before."""
        self.at, self.busy, self.known = at, False, {at: self._own(known)}

    def forget_before(self, now: int) -> None:
        """Drop what was known at stages that nobody asks for any more."""
        self.known = {at: known for at, known in self.known.items() if at >= min(now, self.at)}

    def _own(self, known: Boundary) -> Boundary:
        return {
            key: value
            for key, value in known.items()
            if lane_of(key) == self.number and (self.is_made if part_of(key) == "own" else self.is_given)
        }


class Group:
    """Some sequences, their lanes, and what was judged of them."""

    def __init__(self, sequences: tuple[int, ...], passes: Iterable[int], lanes: Iterable[Lane]):
        self.sequences, self.lanes = sequences, list(lanes)
        self.passes = {str(number) for number in passes}
        self.begun: dict[int, tuple[int, ...]] = {}  # by stage: the runs from the prompt with which it is judged
        self.done: dict[int, Shard] = {}  # by stage

    @property
    def bytes(self) -> int:
        """How much is known of stages that somebody may still ask for."""
        return sum(bytes_of(known) for lane in self.lanes for known in lane.known.values())

    def at(self, stage: int) -> Boundary | None:
        """Return what all lanes know at a stage; None where one of them has not come to it."""
        parts = [lane.known.get(stage) for lane in self.lanes]
        if any(part is None for part in parts):
            return None
        return {key: value for part in parts if part for key, value in part.items()}

    def go_back(self, stage: int, known: Boundary) -> None:
        """Go on from a stage with other knowledge; what was judged from there on is forgotten."""
        for lane in self.lanes:
            lane.sent_back(stage, {key: value for key, value in known.items() if key.split(" ")[0] in self.passes})
        self.done = {at: shard for at, shard in self.done.items() if at < stage}
        self.begun = {at: made for at, made in self.begun.items() if at < stage}

    def judge_again(self, stage: int) -> None:
        """Forget what was judged at a stage."""
        del self.done[stage], self.begun[stage]

    def forget_before(self, now: int) -> None:
        """Drop what nobody asks for any more."""
        for lane in self.lanes:
            lane.forget_before(now)
        self.done = {at: shard for at, shard in self.done.items() if at >= now}


def groups_of(case: Case, most: int) -> list[Group]:
    """Share the sequences of a case out, each group with the lanes that it needs.

    Args:
        case: dump and weights.
        most: how many groups there may be.
    """
    count, groups = len(case.chains), min(most, len(case.chains))
    cuts = [count * i // groups for i in range(groups + 1)]
    return [_group(case, tuple(range(*some))) for some in itertools.pairwise(cuts)]


def _group(case: Case, sequences: tuple[int, ...]) -> Group:
    several = [one for number in sequences for one in case.chains[number]]
    few, given = case.all_runs[0].few, any(one.is_given and not _is_anchored(case, one) for one in several)
    lanes = [Lane(TRUTH, True, True), *(Lane(i, True, given) for i in few)]
    rest = [i for i in case.all_runs[0].full if i not in few] if given else []
    return Group(sequences, [one.number for one in several], [*lanes, *(Lane(i, False, True) for i in rest)])


def _is_anchored(case: Case, pass_runs: PassRuns) -> bool:
    """Tell whether a dump has all that stages leave: then its runs on the dump's own inputs carry nothing."""
    here = set(stages_of(pass_runs.one_pass))
    return all(tap in pass_runs.stored for stage in case.stages[:-1] if stage in here for tap in left_by(stage))
