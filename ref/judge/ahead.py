"""Stages judged side by side by an executor: runs from the prompt go ahead, and what they leave lets stages be judged.

A lane is the truth or one valid run. Lanes do not need each other to go from stage to stage; a stage can be judged once
all of them have come to it. Jobs are few at a time, the lanes' before others, so that what waits stays small.
"""

from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import NamedTuple, Protocol

from ref.emulate.stages import Stage
from ref.judge.boundary import Boundary, same
from ref.judge.case import Case
from ref.judge.in_turn import Judged
from ref.judge.jobs import Job, Names
from ref.judge.lanes import Group, Lane, groups_of
from ref.judge.shard import Shard

LONG = 5.0  # seconds after which it is asked whether anybody is still there
MOST_KNOWN = 2**31  # bytes that lanes may know of stages that are not judged yet


class Doer(Protocol):
    """What does jobs: see `ref.judge.doers`."""

    workers: int
    threads: int
    of_lanes: int
    all_threads: int

    def submit(self, job: Job, boundary: Boundary) -> "Future[Shard]":
        """Begin a job."""
        ...

    def result(self, future: "Future[Shard]") -> Shard | None:
        """Return what a job has found; None where it is to be begun once more."""
        ...

    def alive(self) -> None:
        """Refuse to wait for what is gone."""
        ...


class _Begun(NamedTuple):
    """A job that has been begun."""

    job: Job
    boundary: Boundary
    at: int  # number of its stage
    group: Group
    lane: Lane | None  # None: it is judged
    generation: int


class Ahead:
    """Judges the stages of a case by jobs, ahead of what is asked for.

    Args:
        case: dump and weights, as they are opened here.
        names: the same by names.
        doer: what does the jobs.
    """

    def __init__(self, case: Case, names: Names, doer: Doer):
        self.case, self.names, self.doer = case, names, doer
        self.full, self.made = case.all_runs[0].full, case.all_runs[0].few
        self.groups = groups_of(case, doer.workers)
        self.flying: dict[Future[Shard], _Begun] = {}
        self.now, self.generation = 0, 0  # the stage that is asked for; how often all was begun anew
        self.shown: tuple[str, ...] = ()
        for lane in (one for group in self.groups for one in group.lanes):
            self._come(lane, 0, {})

    def judged(self, stage: Stage, shown: Collection[str]) -> Judged:
        """Return what was found in the next stage; arguments as `InTurn.judged`."""
        self.now, self.shown = self.case.stages.index(stage), tuple(sorted(shown))
        for group in self.groups:
            group.forget_before(self.now)
        self._until(lambda: all(self.now in group.done for group in self.groups))
        if any(self._wants_more(group) for group in self.groups):
            self._make_every_run()
            self._until(lambda: all(self.now in group.done for group in self.groups))
        rows = [row for group in self.groups for row in group.done[self.now].rows]
        return Judged(rows, lambda: self._whole(self.now), self.made)

    def correct(self, stage: Stage, left: Boundary) -> None:
        """Go on behind a stage with another boundary than it left, if it is another."""
        at = self.case.stages.index(stage) + 1
        if at >= len(self.case.stages) or same(self._whole(at), left):
            return
        self.generation += 1  # what is under way is of the other boundary
        for group in self.groups:
            group.go_back(at, left)

    def close(self) -> None:
        """Drop what has not begun."""
        for future in self.flying:
            future.cancel()
        self.flying.clear()

    def _until(self, is_so: Callable[[], bool]) -> None:
        """Begin jobs and take their results until something is so."""
        self._begin()
        while not is_so():
            assert self.flying, "nothing is under way"
            done, _ = wait(self.flying, LONG, FIRST_COMPLETED)
            self.doer.alive()
            for future in done:
                self._take(self.flying.pop(future), future)
            self._begin()

    def _begin(self) -> None:
        while len(self.flying) < self.doer.workers + 1:
            found = self._lane() or self._stage()
            if found is None:
                return
            self.flying[self.doer.submit(found.job, found.boundary)] = found

    def _lane(self) -> _Begun | None:
        """Choose the hindmost lane that may go on."""
        most = len(self.case.stages) - 1
        if sum(group.bytes for group in self.groups) > MOST_KNOWN:  # what waits is to stay small
            most = min(most, self.now + 2)
        idle = [(lane, group) for group in self.groups for lane in group.lanes if not lane.busy and lane.at < most]
        if not idle:
            return None
        lane, group = min(idle, key=lambda one: one[0].at)
        lane.busy = True
        job = lane.job(self.names, self.case.stages[lane.at], group.sequences, self.doer.of_lanes)
        return _Begun(job, lane.known[lane.at], lane.at, group, lane, self.generation)

    def _stage(self) -> _Begun | None:
        """Choose a stage that can be judged: the logits, which take longest, else the first."""
        stages = range(self.now, len(self.case.stages))
        for at in sorted(stages, key=lambda at: (self.case.stages[at].name != "logits", at)):
            for group in self.groups:
                boundary = None if at in group.begun else group.at(at)
                if boundary is not None:
                    group.begun[at] = self.made
                    stage = self.case.stages[at]
                    threads = self._threads(stage)
                    job = Job(self.names, stage, group.sequences, self.made, None, self.shown, threads=threads)
                    return _Begun(job, boundary, at, group, None, self.generation)
        return None

    def _threads(self, stage: Stage) -> int:
        """Choose how many threads judge a stage: more where few jobs are left, and for the logits, which take long."""
        left = sum(at not in group.begun for group in self.groups for at in range(self.now, len(self.case.stages)))
        each = max(self.doer.threads, self.doer.all_threads // max(1, len(self.flying) + left))
        return max(each, self.doer.of_lanes) if stage.name == "logits" else each

    def _take(self, begun: _Begun, future: "Future[Shard]") -> None:
        if begun.generation != self.generation:
            return
        shard = self.doer.result(future)
        if shard is None:  # its worker is gone
            self.flying[self.doer.submit(begun.job, begun.boundary)] = begun
        elif begun.lane is not None:
            self._come(begun.lane, begun.at + 1, shard.left)
        elif begun.group.begun.get(begun.at) == begun.job.made:
            begun.group.done[begun.at] = shard

    def _come(self, lane: Lane, at: int, left: Boundary) -> None:
        """Have a lane come to a stage, and further where stages between were left out: nothing moves over these."""
        lane.come(at, left)
        while at + 1 < len(self.case.stages) and not self.case.follows(self.case.stages[at + 1]):
            at += 1
            lane.come(at, {})

    def _whole(self, at: int) -> Boundary:
        """Return what all lanes know at a stage, once they have come to it."""
        self._until(lambda: all(group.at(at) is not None for group in self.groups))
        return {key: value for group in self.groups for key, value in (group.at(at) or {}).items()}

    def _wants_more(self, group: Group) -> bool:
        """Tell whether few runs from the prompt do not settle the stage that is asked for."""
        return group.done[self.now].unsettled and group.begun[self.now] != self.full

    def _make_every_run(self) -> None:
        """Send the runs from the prompt that were not made on their way, and judge the stage again with all."""
        if self.made != self.full:
            for group in self.groups:
                more = [Lane(i, True, False) for i in self.full if i not in self.made]
                for lane in more:
                    self._come(lane, 0, {})
                group.lanes += more
            self.made = self.full
        for group in self.groups:
            if self._wants_more(group):
                group.judge_again(self.now)
