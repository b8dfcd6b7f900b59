"""A bench: one pass of a dump, and the runs that it is measured with."""

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np

from ref.verify.emulate import TRUTH, Arithmetic
from ref.verify.graph import Run
from ref.verify.parallel import side_by_side
from ref.verify.stages import Stage
from ref.verify.world import World

LEFT = {  # by stages that are no layers
    "vision.start": ["vision.layer.0.in"],
    "vision.end": ["vision.soft_tokens"],
    "embed": ["text.layer.0.in"],
    "final": ["text.final_norm"],
}


class Bench:
    """One pass of a dump, and all the runs it is measured with.

    Args:
        number: of the pass.
        world: what it is run with.
        stored: tap -> `ref.verify.align.Stored`.
        members: the operations of each valid run.
        before: the bench of the pass that this one continues.
    """

    def __init__(
        self,
        number: int,
        world: World,
        stored: dict[str, Any],
        members: Sequence[Arithmetic],
        before: "Bench | None",
    ):
        self.number, self.world, self.stored = number, world, stored
        self.partial: dict[str, Any] = {}  # taps of which a few values are known
        self.carried: set[str] = set()  # values that earlier stages left
        self.loaded: dict[str, np.ndarray] = {}  # of the stage, since all runs ask for the same
        given = {name: partial(self.load, name) for name in stored}
        previous: Any = iter(before.all_runs() if before else [None] * (2 + 2 * len(members)))
        self.own = Run(world, TRUTH, {}, next(previous))
        self.local = Run(world, TRUTH, given, next(previous))
        self.owns = [Run(world, arithmetic, {}, next(previous)) for arithmetic in members]
        self.locals = [Run(world, arithmetic, given, next(previous)) for arithmetic in members]

    def load(self, tap: str) -> np.ndarray:
        """Return the dump's value of a tap, halves as float32; all runs share the array: nobody may write into it."""
        if tap not in self.loaded:
            self.loaded[tap] = self.stored[tap].load()
        return self.loaded[tap]

    def all_runs(self) -> list[Run]:
        """List the runs, always in the same order."""
        return [self.own, self.local, *self.owns, *self.locals]

    def keep(self, stage: Stage) -> None:
        """Compute what a stage leaves for later ones, and drop the rest."""
        if stage.layer is not None:
            name = "text.layer." if stage.name == "layer" else "vision.layer."
            left = [f"{name}{stage.layer}.out", *([] if stage.last else [f"{name}{stage.layer + 1}.in"])]
        else:
            left = LEFT.get(stage.name, [])

        def finish(runs: Sequence[Run]) -> None:
            for run in runs:
                for tap in left:
                    if not run.is_given(tap):
                        run.value(tap)

        # the runs of one arithmetic one after the other, since they share what it makes of weights
        side_by_side(finish, [[self.own, self.local], *map(list, zip(self.owns, self.locals, strict=True))])
        self.forget(left)

    def forget(self, left: Sequence[str] = ()) -> None:
        """Drop all values but some."""
        for run in self.all_runs():
            run.forget(left)
        self.loaded.clear()
        self.carried = set(left)

    def with_world(self, world: World, stored: dict[str, Any]) -> "Bench":
        """Return a bench of another head: its runs know what these know, and it has the dump's taps given."""
        other = copy(self)
        other.world, other.stored, other.loaded = world, stored, {}
        other.own, other.local, *rest = (run.with_world(world, stored) for run in self.all_runs())
        other.owns, other.locals = rest[: len(self.owns)], rest[len(self.owns) :]
        return other
