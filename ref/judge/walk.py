"""The judge: goes through a dump stage by stage, and measures each tap twice, from the prompt and on its own inputs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ref.emulate.stages import Stage, in_order, prepare_stage, stage_weights, stages_of, taps_of, weights_for
from ref.measure.floor import LIMIT
from ref.measure.measure_logits import measure
from ref.measure.measure_printed import measure_partial
from ref.measure.measure_tap import Measured
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns, left_by, make

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


class Listener(Protocol):
    """What is told of each tap while the runs still hold its inputs, and may say otherwise of it."""

    def __call__(self, pass_runs: PassRuns, tap: str, found: Measured) -> Measured:
        """Take note of a tap; return what is found there after all."""
        ...

    def end(self, pass_runs: PassRuns, prefix: str) -> None:
        """Take note of the end of a stage."""
        ...


_Place = tuple[PassRuns, str]  # a tap of a pass


def walk(all_runs: list[PassRuns], loaded: "Loaded", held: str, listen: Listener) -> Iterator[Measured]:
    """Measure every tap that a dump has, stage by stage through all its passes.

    Args:
        all_runs: the passes.
        loaded: the weights.
        held: the dtype that the producer held them in.
        listen: told of each tap while the runs still hold its inputs.

    Yields:
        Measured, one a tap and pass; in the order of stages, not of passes.
    """
    chains = [(chain, set(_stages(chain))) for chain in chains_of(all_runs)]
    for stage in in_order(stage for _, stages in chains for stage in stages):
        here = [chain for chain, stages in chains if stage in stages]
        wide = prepare_stage(loaded, stage, held, np.float64)
        by_weight = all_runs[0].owns[0].arithmetic.by_weight
        narrow = stage_weights(loaded, stage) if by_weight else prepare_stage(loaded, stage, held, np.float32)
        for chain in here:
            more = partial(_make_every_run, chain, stage, narrow, loaded, held)
            yield from _judge_chain(chain, stage, wide, narrow, listen, more)


def chains_of(all_runs: list[PassRuns]) -> list[list[PassRuns]]:
    """Group passes: each chain is a first pass and those that continue it."""
    chains: list[list[PassRuns]] = []
    for pass_runs in all_runs:
        if pass_runs.before is None:
            chains.append([])
        chains[-1].append(pass_runs)
    return chains


def _make_every_run(chain: list[PassRuns], now: Stage, narrow, loaded: "Loaded", held: str, last: _Place) -> None:
    """Bring the runs from the prompt that were not made to the tap that the others are at, by the same taps.

    What attention shows is rounded, what it does not show need not be: a run that skipped taps would be another.
    """
    stages = in_order(stage for pass_runs in chain for stage in stages_of(pass_runs.one_pass))
    spare = [(pass_runs, pass_runs.spare) for pass_runs in chain]
    for pass_runs in chain:
        pass_runs.owns = pass_runs.every
    for stage in stages[: stages.index(now) + 1]:
        here = [(pass_runs, runs) for pass_runs, runs in spare if stage in stages_of(pass_runs.one_pass)]
        each = [run for _, runs in here for run in runs]
        weights = narrow if stage == now else weights_for(loaded, stage, held, each[0].arithmetic)
        for run in each:
            run.enter(stage, weights)
        for pass_runs, runs in here:
            taps = _taps(pass_runs, stage)
            if stage == now and pass_runs is last[0]:
                side_by_side(partial(make, taps[: taps.index(last[1])]), runs)
                return
            side_by_side(partial(make, taps if stage == now else [*taps, *left_by(stage)]), runs)
        for run in each:
            run.forget(left_by(stage))


def _judge_chain(
    chain: list[PassRuns], stage: Stage, wide, narrow, listen: Listener, more: Callable[[_Place], None]
) -> Iterator[Measured]:
    """Measure the taps of one stage. Later passes read keys of earlier ones, so that nothing is dropped before all.

    A pass without images has no part in the tower's stages. A floor from the prompt is the largest of few runs; with
    more it can only rise, so these are made, by `more`, where few do not settle it.
    """
    chain = [pass_runs for pass_runs in chain if stage in stages_of(pass_runs.one_pass)]
    for pass_runs in chain:
        pass_runs.enter(stage, wide, narrow)
    for pass_runs in chain:
        for tap in _taps(pass_runs, stage):
            found = _measure(pass_runs, tap)
            if pass_runs.spare and (found.finding.inherited_ratio or 0.0) > LIMIT:
                more((pass_runs, tap))
                found = _measure(pass_runs, tap)
            yield listen(pass_runs, tap, found)
    for pass_runs in chain:
        listen.end(pass_runs, stage.prefix)
        pass_runs.finish(stage)
    for pass_runs in chain:
        pass_runs.forget(left_by(stage))


def _measure(pass_runs: PassRuns, tap: str) -> Measured:
    if tap in pass_runs.partial:
        return measure_partial(pass_runs, tap)
    return measure(pass_runs, tap)


def _taps(pass_runs: PassRuns, stage: Stage) -> list[str]:
    taps = taps_of(stage, True, bool(pass_runs.one_pass.places.any()))
    return [tap for tap in taps if tap in pass_runs.stored or tap in pass_runs.partial]


def _stages(chain: list[PassRuns]) -> list[Stage]:
    """List the stages of a chain of passes up to the last that the dump has a tap of in any of them.

    Each pass goes through all of them: a tap of a later pass needs what the earlier ones make on the way to it.
    """
    stages = in_order(stage for pass_runs in chain for stage in stages_of(pass_runs.one_pass))
    last = max((i for i, stage in enumerate(stages) if any(_taps(pass_runs, stage) for pass_runs in chain)), default=-1)
    return stages[: last + 1]
