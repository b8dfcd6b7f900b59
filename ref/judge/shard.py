"""One stage of a dump, judged by itself: what its taps have, and what it leaves for the next."""

import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from ref.diagnosis.below_floor import Looked, look_below
from ref.diagnosis.coverage import Covered, can_cover, cover, is_first
from ref.emulate.policy import members_of
from ref.emulate.stages import Stage
from ref.judge.boundary import TRUTH, Boundary, left_in, only, put
from ref.judge.case import Case, Chain, taps_at
from ref.measure.floor import LIMIT
from ref.measure.measure_logits import measure
from ref.measure.measure_printed import measure_partial
from ref.measure.measure_sketch import SketchedTap, inherited_alone, measure_sketch
from ref.measure.measure_tap import Measured
from ref.measure.parallel import side_by_side
from ref.measure.pass_by import pass_by
from ref.measure.pass_runs import PassRuns, left_by, make
from ref.measure.rank_views import left_on_ranks
from ref.measure.tap_finding import TapFinding


class ShardRow(NamedTuple):
    """What was found at one tap of one pass; it holds no arrays."""

    sequence: int
    finding: TapFinding
    profile: dict[str, list[float]]
    below: Looked = ()  # subtle mistakes
    covered: Covered | None = None  # None: not looked at here
    coverable: bool = False  # whether it could be


class Shard(NamedTuple):
    """What was found in one stage."""

    rows: tuple[ShardRow, ...]  # in the order of execution
    left: Boundary  # what its runs leave for the next stage; empty where nobody asked for it

    @property
    def unsettled(self) -> bool:
        """Whether some tap is so far off that few runs from the prompt do not make its floor."""
        return any((row.finding.inherited_ratio or 0.0) > LIMIT for row in self.rows)


def judge_stage(
    case: Case,
    stage: Stage,
    boundary: Boundary,
    made: Collection[int],
    sequences: tuple[int, ...] | None = None,
    shown: Collection[str] = (),
    leave: bool = True,
) -> Shard:
    """Measure every tap of a stage. What is found is a function of the names and the boundary alone.

    Args:
        case: dump and weights.
        stage: which.
        boundary: what the stage before left.
        made: numbers of the valid runs from the prompt that the boundary is of.
        sequences: those that are judged; None: all.
        shown: names of mutants that have shown elsewhere, which need not be run again.
        leave: whether what the stage leaves is wanted.
    """
    here = case.here(stage, sequences)
    enter(case, stage, [chain for _, chain in here], boundary, made)
    rows, seen = [], set(shown)
    for number, chain in here:
        for pass_runs in chain:
            for tap in taps_at(pass_runs, stage):
                if not case.question.choice.has(stage, tap):
                    pass_by(pass_runs, tap)
                    continue
                row = _row_of(case, pass_runs, tap, number, seen)
                seen |= set(row.covered.shown if row.covered else ())
                rows.append(row)
    return Shard(tuple(rows), finish(stage, [chain for _, chain in here], leave))


def enter(
    case: Case,
    stage: Stage,
    chains: list[Chain],
    boundary: Boundary,
    made: Iterable[int],
    truth: bool = True,
    computes: bool = True,
) -> None:
    """Have the runs of some sequences begin a stage with what a boundary says.

    Args:
        case, stage, boundary, made: as `judge_stage`.
        chains: the sequences.
        truth: whether runs in float64 compute.
        computes: whether anything needs weights.
    """
    put(chains, boundary, made)
    narrow = case.narrow_at(stage) if computes else None
    wide = case.wide_at(stage) if truth and computes else None
    for pass_runs in (one for chain in chains for one in chain):
        pass_runs.enter(stage, wide, narrow)


def finish(stage: Stage, chains: list[Chain], leave: bool = True) -> Boundary:
    """Compute what a stage leaves for later ones, and drop the rest."""
    several = [one for chain in chains for one in chain]
    for pass_runs in several if leave else ():
        pass_runs.finish(stage)
    for pass_runs in several:  # later passes read keys of earlier ones, so that nothing is dropped before all
        pass_runs.forget(left_by(stage) if leave else ())
    return left_in(chains) if leave else {}


def measure_any(pass_runs: PassRuns, tap: str) -> Measured:
    """Measure a tap, or what is known of it: a few values, or a sketch."""
    if isinstance(pass_runs.partial.get(tap), SketchedTap):
        return measure_sketch(pass_runs, tap)
    if tap in pass_runs.partial:
        return measure_partial(pass_runs, tap)
    return inherited_alone(pass_runs, measure(pass_runs, tap))


def _row_of(case: Case, pass_runs: PassRuns, tap: str, sequence: int, shown: Collection[str]) -> ShardRow:
    begin = time.perf_counter()
    found = measure_any(pass_runs, tap)
    below, covered = listen(case, pass_runs, tap, found), None
    if is_first(pass_runs, tap) and can_cover(found):
        covered = cover(pass_runs, tap, found, shown)
    finding = replace(found.finding, seconds=round(time.perf_counter() - begin, 3))
    return ShardRow(sequence, finding, found.profile, below, covered, can_cover(found))


def listen(case: Case, pass_runs: PassRuns, tap: str, found: Measured) -> Looked:
    """Look for mistakes below the floor, in formats whose rounding hides them.

    Errors of rounded operands are alike along whole rows: a projection would take them for a mistake.
    """
    policy = members_of(case.family)[0][0]
    low = policy.stored in ("bfloat16", "float16") and policy.operands == "stored"
    return look_below(pass_runs, tap, found) if low and not found.finding.why else ()


def pass_through(
    case: Case,
    stage: Stage,
    boundary: Boundary,
    lanes: Collection[int],
    made: Collection[int],
    sequences: tuple[int, ...] | None = None,
) -> Boundary:
    """Take the runs of some lanes through a stage, and measure nothing.

    Args:
        case, stage, sequences: as `judge_stage`.
        boundary: what the stage before left of these lanes.
        lanes: the truth's, and numbers of valid runs.
        made: numbers of the valid runs from the prompt that are made; of other lanes only the runs on the dump's own
            inputs go on.

    Returns:
        What `judge_stage` would leave of these lanes, bit for bit.
    """
    chains, truth = [chain for _, chain in case.here(stage, sequences)], TRUTH in lanes
    computes = truth or bool(made) or not all(_is_given(one, stage) for chain in chains for one in chain)
    enter(case, stage, chains, boundary, [lane for lane in lanes if lane in made], truth, computes)
    several = [one for chain in chains for one in chain]
    for pass_runs in several:
        for tap in taps_at(pass_runs, stage):
            pass_by(pass_runs, tap, truth)
    for pass_runs in several:
        _leave(pass_runs, stage, lanes)
    for pass_runs in several:
        pass_runs.forget(left_by(stage))
    return only(left_in(chains), lanes)


def _is_given(pass_runs: PassRuns, stage: Stage) -> bool:
    """Tell whether a dump has what a stage leaves; what the next layer is given is what this one gives."""
    return stage.layer is not None and left_by(stage)[0] in pass_runs.stored


def _leave(pass_runs: PassRuns, stage: Stage, lanes: Collection[int]) -> None:
    """Compute what a stage leaves in the runs of some lanes."""
    several = [pass_runs.lane(None if lane == TRUTH else lane) for lane in sorted(lanes)]
    side_by_side(lambda runs: [make(left_by(stage), run) for run in runs], several)
    if TRUTH in lanes:
        pass_runs.left_on = left_on_ranks(pass_runs, stage.prefix, left_by(stage))
