"""One pass of a dump, and the runs that it is measured with."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, TypeVar
from zlib import crc32

import numpy as np

from ref.dump.align import RankPart
from ref.emulate.arithmetic import Arithmetic
from ref.emulate.graph import NARROW, Run
from ref.emulate.narrow_truth import NARROW_TRUTH
from ref.emulate.one_pass import OnePass, Unknown
from ref.emulate.paired_truth import Pair
from ref.emulate.policy import RUNS
from ref.emulate.stages import Stage
from ref.measure.floor import STEP
from ref.measure.parallel import side_by_side
from ref.measure.rank_views import left_on_ranks
from ref.model.taps import row_of

Value = TypeVar("Value")
LEFT = {  # by stages that are no layers
    "vision.start": ["vision.layer.0.in"],
    "vision.end": ["vision.soft_tokens"],
    "embed": ["text.layer.0.in"],
    "final": ["text.final_norm"],
}


def left_by(stage: Stage) -> list[str]:
    """List the taps that a stage leaves for later ones."""
    if stage.layer is None:
        return LEFT.get(stage.name, [])
    name = "text.layer." if stage.name == "layer" else "vision.layer."
    return [f"{name}{stage.layer}.out", *([] if stage.last else [f"{name}{stage.layer + 1}.in"])]


def make(taps: Iterable[str], run: Run) -> None:
    """Compute the values of taps that are not the dump's."""
    for tap in taps:
        if not run.is_given(tap):
            with suppress(Unknown):  # whoever asks for it later is told why
                run.value(tap)


def _known(make: Callable[[str], Value], tap: str) -> Value | Unknown:
    """Compute a value, or return why it is not known: of a dump without pixels what follows from the prompt."""
    try:
        return make(tap)
    except Unknown as error:
        return error


def _is_narrow(heard: Iterable[str], members: Sequence[Arithmetic]) -> bool:
    """Tell whether all floats of a dump, and the values of its valid runs, have 8 or 11 bits."""
    floats = {dtype for dtype in heard if dtype in STEP}
    return bool(floats) and floats <= set(NARROW) and all(one.stored in NARROW for one in members)


TINY = 2.0**-126  # below it steps no longer shrink
# Of six valid runs those that are made from the prompt on at first: in most taps one of them is the furthest from the
# truth of all. The last two sum in chains, which err most in float32; in narrower formats it is where a policy rounds
# that counts.
FEW, FEW_NARROW = (4, 5), (2, 4)


class PassRuns:
    """One pass of a dump, and all the runs it is measured with.

    Args:
        number: of the pass.
        one_pass: what it is run with.
        stored: tap -> `ref.dump.align.Stored`.
        members: the operations of each valid run.
        before: the runs of the pass that this one continues.
        shown: tap -> what is known of taps of which a few values are.
    """

    def __init__(
        self,
        number: int,
        one_pass: OnePass,
        stored: dict[str, Any],
        members: Sequence[Arithmetic],
        before: "PassRuns | None",
        shown: dict[str, Any] | None = None,
    ):
        self.number, self.one_pass, self.stored, self.before = number, one_pass, stored, before
        self.apart: dict[str, list[RankPart]] = {}  # of each tap what ranks hold with other bits, as far as it is known
        self.left_on: dict[int, dict[str, np.ndarray]] = {}  # of ranks that saw something else: what stages left there
        self.partial = shown or {}
        self.carried: set[str] = set()  # values that earlier stages left
        self.loaded: dict[str, np.ndarray] = {}  # of the stage, since all runs ask for the same
        given = {name: partial(self.load, name) for name in stored}
        previous: Any = iter(before.all_runs(True) if before else [None] * (2 + 2 * len(members)))
        heard = {name: one.dtype for name, one in (*stored.items(), *self.partial.items())}
        self.pair, narrow = Pair(), _is_narrow(heard.values(), members)
        self.own = Run(one_pass, NARROW_TRUTH if narrow else self.pair.second, {}, next(previous))
        self.local = Run(one_pass, NARROW_TRUTH if narrow else self.pair.first, given, next(previous))
        self.every = [Run(one_pass, arithmetic, {}, next(previous), heard=heard) for arithmetic in members]
        few = FEW_NARROW if all(one.stored in NARROW for one in members) else FEW  # the same of every pass
        self.few = few if len(members) == RUNS else tuple(range(len(members)))
        self.made = self.few  # which of every run from the prompt are made
        self.is_given = True  # whether runs on the dump's own inputs are; not where it has none
        self.locals = [
            Run(one_pass, arithmetic, self._given(arithmetic, number), next(previous), heard=heard)
            for number, arithmetic in enumerate(members)
        ]

    def load(self, tap: str) -> np.ndarray:
        """Return the dump's value of a tap, halves as float32; all runs share the array: nobody may write into it."""
        if tap not in self.loaded:
            self.loaded[tap] = self.stored[tap].load()
        return self.loaded[tap]

    def _given(self, arithmetic: Arithmetic, number: int) -> dict[str, Any]:
        """Return what a valid run is given: tensors stored narrower than they were computed as they may have been.

        Under autocast (`formats`) a narrow tensor was computed as narrow.
        """
        given = {}
        for name, one in self.stored.items():
            narrower = STEP.get(one.dtype, 0.0) > STEP.get(arithmetic.stored, 1.0) and not arithmetic.formats
            given[name] = partial(self.unrounded, name, number) if narrower else partial(self.load, name)
        return given

    def unrounded(self, tap: str, number: int) -> np.ndarray:
        """Return values somewhere within half a step of the dump's: what they were before they were stored."""
        value = self.load(tap)
        rng = np.random.default_rng([number, crc32(tap.encode())])
        steps = np.exp2(np.floor(np.log2(np.maximum(np.abs(value), TINY)))) * STEP[self.stored[tap].dtype]
        return value + steps * (rng.random(value.shape) - 0.5)

    def all_runs(self, every: bool = False) -> list[Run]:
        """List the runs, always in the same order: those that are made, or every one."""
        return [self.own, self.local, *(self.every if every else self.owns), *self.locals]

    @property
    def owns(self) -> list[Run]:
        """The runs from the prompt that are made."""
        return [self.every[i] for i in self.made]

    @property
    def full(self) -> tuple[int, ...]:
        """The numbers of every run from the prompt."""
        return tuple(range(len(self.every)))

    def of_few(self, values: Sequence[Value]) -> list[Value]:
        """Return those of the few runs that are made at first, of values of all that are made."""
        return [value for i, value in zip(self.made, values, strict=True) if i in self.few]

    def enter(self, stage: Stage, wide: Any, narrow: Any) -> None:
        """Begin a stage in all runs; arguments as `prepare_stage` returns them, for the truth and for valid runs."""
        for run in self.all_runs():
            run.enter(stage, wide if run.arithmetic.dtype == np.float64 else narrow)

    def truths(self, tap: str) -> tuple[tuple[np.ndarray, list[str]] | Unknown, np.ndarray | Unknown]:
        """Compute the truth of a tap on the dump's own inputs, and from the prompt.

        Beside the first stand the taps on the way that the dump lacks. Of what is not known the reason is returned.
        """
        makers: list[Any] = [self.local.recompute, self.own.value]
        if row_of(tap).op == "linear":  # one after the other, since the second takes what the first has made
            with self.pair.beside():
                local, own = [_known(make, tap) for make in makers]
        else:
            local, own = side_by_side(lambda make: _known(make, tap), makers)
        return local, own

    def lane(self, number: int | None) -> list[Run]:
        """List the runs of one arithmetic that are made: one after the other, as they share what it makes of weights.

        Args:
            number: of a valid run; None: the truth.
        """
        if number is None:
            return [self.own, self.local] if self.is_given else [self.own]
        own = [self.every[number]] if number in self.made else []
        return [*own, self.locals[number]] if self.is_given else own

    def finish(self, stage: Stage) -> None:
        """Compute what a stage leaves for later ones. A pass that continues this one may still need the rest."""
        lanes = [self.lane(None), *map(self.lane, self.full)]
        side_by_side(lambda runs: [make(left_by(stage), run) for run in runs], lanes)
        self.left_on = left_on_ranks(self, stage.prefix, left_by(stage))

    def forget(self, left: Sequence[str] = ()) -> None:
        """Drop all values but some."""
        for run in self.all_runs():
            run.forget(left)
        for tap in self.loaded:
            self.stored[tap].let_go()
        self.loaded.clear()
        self.carried = set(left)

    def with_pass(self, one_pass: OnePass, stored: dict[str, Any]) -> "PassRuns":
        """Return the same runs with another head: they know what these know, and have the dump's taps given."""
        other = copy(self)
        other.one_pass, other.stored, other.loaded = one_pass, stored, {}
        other.own, other.local, *rest = (run.with_pass(one_pass, stored) for run in self.all_runs())
        other.every, other.locals = rest[: len(self.made)], rest[len(self.made) :]
        other.few = tuple(at for at, i in enumerate(self.made) if i in self.few)
        other.made = tuple(range(len(other.every)))
        return other
