"""The judge: goes through a dump stage by stage, and measures each tap twice, from the prompt and on its own inputs."""

from collections.abc import Callable, Iterator

import numpy as np

from ref.verify.at_tap import Measured, measure_tap
from ref.verify.bench import Bench
from ref.verify.logits import measure_logits
from ref.verify.partial import measure_partial
from ref.verify.stages import Stage, prepare_stage, stage_weights, stages_of, taps_of

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
    plan = [(stage, bench) for bench in benches for stage in _stages(bench)]
    for stage in sorted({stage for stage, _ in plan}, key=_place):
        here = [bench for other, bench in plan if other == stage]
        wide = prepare_stage(loaded, stage, held, np.float64)
        by_weight = here[0].owns[0].arithmetic.by_weight
        narrow = stage_weights(loaded, stage) if by_weight else prepare_stage(loaded, stage, held, np.float32)
        for bench in here:
            for run in bench.all_runs():
                run.weights = wide if run.arithmetic.dtype == np.float64 else narrow
            for tap in _taps(bench, stage):
                found = _measure(bench, tap)
                listen(bench, tap, found)
                yield found
        for bench in here:
            bench.keep(stage)


def _measure(bench: Bench, tap: str) -> Measured:
    if tap in bench.partial:
        return measure_partial(bench, tap)
    return measure_logits(bench) if tap == "text.logits" else measure_tap(bench, tap)


def _taps(bench: Bench, stage: Stage) -> list[str]:
    taps = taps_of(stage, True, bool(bench.world.places.any()))
    return [tap for tap in taps if tap in bench.stored or tap in bench.partial]


def _stages(bench: Bench) -> list[Stage]:
    """List the stages of a pass up to the last that the dump has a tap of."""
    stages = stages_of(bench.world)
    last = max((i for i, stage in enumerate(stages) if _taps(bench, stage)), default=-1)
    return stages[: last + 1]


_ORDER = ("vision.start", "vision.layer", "vision.end", "embed", "layer", "final", "logits")


def _place(stage: Stage):
    return _ORDER.index(stage.name), stage.layer or 0
