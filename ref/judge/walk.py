"""The judge: goes through a dump stage by stage, and measures each tap twice, from the prompt and on its own inputs."""

from collections.abc import Callable, Iterator

import numpy as np

from ref.emulate.stages import Stage, prepare_stage, stage_weights, stages_of, taps_of
from ref.measure.measure_logits import measure_logits
from ref.measure.measure_printed import measure_partial
from ref.measure.measure_tap import Measured, measure_tap
from ref.measure.pass_runs import Bench, left_by

Listener = Callable[[Bench, str, Measured], None]


def judge(benches: list[Bench], loaded, held: str, listen: Listener) -> Iterator[Measured]:
    """Measure every tap that a dump has, stage by stage through all its passes.

    Args:
        benches: the passes.
        loaded: the weights.
        held: the dtype that the producer held them in.
        listen: told of each tap while the runs still hold its inputs.

    Yields:
        Measured, one a tap and pass; in the order of stages, not of passes.
    """
    chains = [(chain, set(_stages(chain))) for chain in chains_of(benches)]
    for stage in sorted(set().union(*(stages for _, stages in chains)), key=_place):
        here = [chain for chain, stages in chains if stage in stages]
        wide = prepare_stage(loaded, stage, held, np.float64)
        by_weight = benches[0].owns[0].arithmetic.by_weight
        narrow = stage_weights(loaded, stage) if by_weight else prepare_stage(loaded, stage, held, np.float32)
        for chain in here:
            yield from _judge_chain(chain, stage, wide, narrow, listen)


def chains_of(benches: list[Bench]) -> list[list[Bench]]:
    """Group passes: each chain is a first pass and those that continue it."""
    chains: list[list[Bench]] = []
    for bench in benches:
        if bench.before is None:
            chains.append([])
        chains[-1].append(bench)
    return chains


def _judge_chain(chain: list[Bench], stage: Stage, wide, narrow, listen: Listener) -> Iterator[Measured]:
    """Measure the taps of one stage. Later passes read keys of earlier ones, so that nothing is dropped before all.

    A pass without images has no part in the tower's stages.
    """
    chain = [bench for bench in chain if stage in stages_of(bench.world)]
    for bench in chain:
        bench.enter(stage, wide, narrow)
    for bench in chain:
        for tap in _taps(bench, stage):
            found = _measure(bench, tap)
            listen(bench, tap, found)
            yield found
    for bench in chain:
        bench.finish(stage)
    for bench in chain:
        bench.forget(left_by(stage))


def _measure(bench: Bench, tap: str) -> Measured:
    if tap in bench.partial:
        return measure_partial(bench, tap)
    return measure_logits(bench) if tap == "text.logits" else measure_tap(bench, tap)


def _taps(bench: Bench, stage: Stage) -> list[str]:
    taps = taps_of(stage, True, bool(bench.world.places.any()))
    return [tap for tap in taps if tap in bench.stored or tap in bench.partial]


def _stages(chain: list[Bench]) -> list[Stage]:
    """List the stages of a chain of passes up to the last that the dump has a tap of in any of them.

    Each pass goes through all of them: a tap of a later pass needs what the earlier ones make on the way to it.
    """
    stages = sorted(set().union(*(stages_of(bench.world) for bench in chain)), key=_place)
    last = max((i for i, stage in enumerate(stages) if any(_taps(bench, stage) for bench in chain)), default=-1)
    return stages[: last + 1]


_ORDER = ("vision.start", "vision.layer", "vision.end", "embed", "layer", "final", "logits")


def _place(stage: Stage):
    return _ORDER.index(stage.name), stage.layer or 0
