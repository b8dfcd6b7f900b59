"""Candidates run from the prompt, all of them through a stage together, so that its weights are widened once."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ref.emulate.arithmetic import TRUTH, Arithmetic
from ref.emulate.graph import Run
from ref.emulate.one_pass import OnePass, Unknown
from ref.emulate.stages import Stage, stages_of, weights_for
from ref.from_logits.candidates import Candidate
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import left_by
from ref.ops import KERNEL
from ref.ops.rope import rope_table

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

# the reference's kernels in float32: 1.4e-6 off on the 270M, less than any implementation, at half the time of float64
QUICK = TRUTH._replace(
    dtype=np.float32,
    embed=partial(KERNEL.embed, dtype=np.float32),
    table=partial(rope_table, dtype=np.float32),
)


class Text(NamedTuple):
    """The passes of a text, and which pass each one continues."""

    passes: tuple[OnePass, ...]
    before: tuple[int | None, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all passes."""
        return sum(one.ids.shape[1] for one in self.passes)

    def beginning(self, tokens: int) -> "Text":
        """Return the first tokens of the first pass; of later passes, and of images, nothing is cut."""
        first = self.passes[0]
        if len(self.passes) > 1 or first.places.any() or first.ids.shape[1] <= tokens:
            return self
        cut = {name: getattr(first, name)[:, :tokens] for name in ("ids", "places", "positions", "first")}
        return Text((first._replace(**cut),), (None,))


class _Runs:
    """One candidate on all passes; None is the model without a mistake."""

    def __init__(self, text: Text, arithmetic: Arithmetic, candidate: Candidate | None):
        self.candidate, self.runs = candidate, list[Run]()
        for one, before in zip(text.passes, text.before, strict=True):
            self.runs.append(Run(one, arithmetic, before=None if before is None else self.runs[before]))

    def know(self, other: "_Runs") -> None:
        """Take over what other runs know."""
        for run, known in zip(self.runs, other.runs, strict=True):
            run.memo = dict(known.memo)

    def go(self, stage: Stage, weights: Any) -> None:
        """Compute what a stage leaves for later ones."""
        for run in self.runs:
            run.enter(stage, weights)
            run.mutant = self.candidate.rules_in(stage) if self.candidate else {}
        for run in self.runs:
            if stage in stages_of(run.one_pass):
                for tap in left_by(stage):
                    with suppress(Unknown):
                        run.value(tap)
        for run in self.runs:
            run.forget(left_by(stage) if stage in stages_of(run.one_pass) else run.memo)


def run_all(
    loaded: "Loaded",
    text: Text,
    candidates: Sequence[Candidate],
    arithmetic: Arithmetic = QUICK,
    progress: Callable[[float], Any] | None = None,
) -> list[list[Run]]:
    """Run the model, and each candidate, up to the final norm.

    Args:
        loaded: the weights.
        text: the passes.
        candidates: what is run. Each shares with the model all stages before the first that it changes.
        arithmetic: of all runs.
        progress: called with the share of the stages that is done.

    Returns:
        The runs of each pass: first the model's, then each candidate's; they hold `text.final_norm` and no more.
    """
    model = _Runs(text, arithmetic, None)
    going, waiting = [model], list(enumerate(candidates))
    placed: dict[int, _Runs] = {}
    stages = _stages(text)
    for number, stage in enumerate(stages):
        weights = weights_for(loaded, stage, text.passes[0].held, arithmetic)
        for place, candidate in [item for item in waiting if item[1].starts_at(stage)]:
            placed[place] = _Runs(text, arithmetic, candidate)
            placed[place].know(model)
            going.append(placed[place])
            waiting.remove((place, candidate))
        side_by_side(lambda one: one.go(stage, weights), going)  # noqa: B023 - they are called at once
        if progress:
            progress((number + 1) / len(stages))
    for place, candidate in waiting:  # of the logits only
        placed[place] = _Runs(text, arithmetic, candidate)
        placed[place].know(model)
    every = [model, *(placed[place] for place in range(len(candidates)))]
    for one in every:
        for run in one.runs:
            run.mutant = one.candidate.rules_in(Stage("logits")) if one.candidate else {}
    return [one.runs for one in every]


def _stages(text: Text) -> list[Stage]:
    longest = max((stages_of(one) for one in text.passes), key=len)
    return [stage for stage in longest if stage.name != "logits"]
