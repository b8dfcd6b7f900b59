"""A bench: one pass of a dump, and the runs that it is measured with."""

from copy import copy
from typing import Any

from ref.verify.emulate import TRUTH, emulate
from ref.verify.graph import Run
from ref.verify.policy import RUNS, members_of
from ref.verify.stages import Stage
from ref.verify.world import World


class Bench:
    """One pass of a dump, and all the runs it is measured with."""

    def __init__(self, number: int, world: World, stored: dict[str, Any], family: str, before: "Bench | None"):
        self.number, self.world, self.stored, self.before = number, world, stored, before
        self.partial: dict[str, Any] = {}  # taps of which a few values are known
        self.carried: set[str] = set()  # values that earlier stages left
        given = {name: one.load for name, one in stored.items()}
        previous: Any = iter(before.all_runs() if before else [None] * (2 + 2 * RUNS))
        members = [emulate(policy, order) for policy, order in members_of(family)]
        self.by_weight = any(policy.by_weight for policy, _ in members_of(family))
        self.own = Run(world, TRUTH, {}, next(previous))
        self.local = Run(world, TRUTH, given, next(previous))
        self.owns = [Run(world, arithmetic, {}, next(previous)) for arithmetic in members]
        self.locals = [Run(world, arithmetic, given, next(previous)) for arithmetic in members]

    def all_runs(self) -> list[Run]:
        """List the runs, always in the same order."""
        return [self.own, self.local, *self.owns, *self.locals]

    def keep(self, stage: Stage) -> None:
        """Drop what later stages do not need."""
        last = {
            "vision.start": ["vision.layer.0.in"],
            "vision.end": ["vision.soft_tokens"],
            "embed": ["text.layer.0.in"],
            "final": ["text.final_norm"],
        }.get(stage.name)
        if stage.name.endswith("layer"):
            tower = stage.name.startswith("vision")
            name = f"{'vision' if tower else 'text'}.layer."
            last = [f"{name}{stage.layer}.out"]
            last += [] if stage.last else [f"{name}{(stage.layer or 0) + 1}.in"]
        for run in self.all_runs():
            for tap in last or []:
                if not run.is_given(tap):
                    run.value(tap)
            run.forget(last or [])
        self.carried = set(last or [])

    def with_world(self, world: World, stored: dict[str, Any]) -> "Bench":
        """Return a bench of another head: its runs know what these know, and it has the dump's taps given."""
        other = copy(self)
        other.world, other.stored = world, stored
        other.own, other.local, *rest = (run.with_world(world, stored) for run in self.all_runs())
        other.owns, other.locals = rest[:RUNS], rest[RUNS:]
        return other
