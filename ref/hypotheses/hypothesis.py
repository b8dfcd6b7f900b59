"""What a hypothesis is: a mutant whose parameters were read off a dump's values, and the clue they are read from."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ref.config import TextConfig
from ref.emulate.context import Rule
from ref.emulate.graph import RULES
from ref.hypotheses.change import Change
from ref.measure.measure_tap import Measured, fitted
from ref.measure.pass_runs import PassRuns
from ref.model.taps import layer_of, prefix_of, row_of, tap_group
from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs

AGREE = 6.0  # standard errors within which two fitted numbers are one


class Parameter(NamedTuple):
    """One free number, order or set of a mistake."""

    name: str
    value: Any  # a number, a word, or a list of them
    stderr: float | None = None  # None where it is exact, or no number
    wanted: Any = None  # what is right
    words: str = ""  # what is known of the number: "25 = int(sqrt(640))"

    def as_json(self) -> dict[str, Any]:
        """Return it as a part of a report."""
        return self._asdict()

    def agrees(self, other: "Parameter") -> bool:
        """Tell whether two are the same, numbers within their errors."""
        if not (isinstance(self.value, float) and isinstance(other.value, float)):
            return self.value == other.value
        within = AGREE * math.hypot(self.stderr or 0.0, other.stderr or 0.0) + 1e-4 * abs(self.value)
        return self.name == other.name and abs(self.value - other.value) <= within


class Hypothesis(NamedTuple):
    """A mutant with its parameters; one of the catalogue has none."""

    mutant: TapMutant
    parameters: tuple[Parameter, ...] = ()
    free: int = 0  # how many numbers were fitted: of two that explain a tap as well the one with fewer is named
    basis: tuple[Change, ...] | None = None  # where a port may rightly keep its values so
    where: str = ""  # on which tokens, heads, channels; empty: on all
    family: str = ""  # that proposed it

    @property
    def key(self) -> tuple[Any, ...]:
        """What two findings of one cause have in common."""
        return self.mutant.name, tuple((one.name, _rough(one)) for one in self.parameters), self.where

    def agrees(self, other: "Hypothesis") -> bool:
        """Tell whether two are one mistake: in the same part, with the same numbers within their errors."""
        alike = self.mutant.name == other.mutant.name and self.where == other.where
        mine, theirs = self.parameters, other.parameters
        return alike and len(mine) == len(theirs) and all(a.agrees(b) for a, b in zip(mine, theirs, strict=True))


def _rough(one: Parameter) -> str:
    if isinstance(one.value, float) and one.stderr:
        return ""  # fitted numbers differ by their errors: `agrees` tells whether they are one
    return f"{one.value:.5g}" if isinstance(one.value, float) else repr(one.value)


class Clue(NamedTuple):
    """What is known at one tap that is off, while the runs of its pass hold the tap's inputs."""

    there: PassRuns
    tap: str
    found: Measured
    value: np.ndarray  # the dump's
    truth: np.ndarray  # on the dump's own inputs
    valid: np.ndarray  # [tokens] bool, False on padding
    passes: Sequence[PassRuns]  # all of the dump

    @property
    def group(self) -> str:
        """The tap's name with layers folded."""
        return tap_group(self.tap)

    @property
    def prefix(self) -> str:
        """`text.layer.3.`, or what comes before the last dot."""
        return prefix_of(self.tap)

    @property
    def layer(self) -> int:
        """The layer, -1 outside layers."""
        layer = layer_of(self.tap)
        return -1 if layer is None else layer

    @property
    def config(self) -> TextConfig:
        """The text configuration."""
        return self.there.one_pass.config

    @property
    def axes(self) -> list[str]:
        """The letters of the axes."""
        return row_of(self.tap).axes.split()

    @property
    def before(self) -> float:
        """How far off the tap is, in floors."""
        return self.found.finding.local_ratio or 0.0

    def input(self, name: str) -> np.ndarray:
        """Return another tap of the same layer, the dump's or computed, in float64."""
        full = name if name.startswith(("text.", "vision.", "model.")) else self.prefix + name
        return self.there.local.value(full)

    def tokens(self) -> np.ndarray:
        """List the tokens that are no padding."""
        return np.flatnonzero(self.valid)

    def by_token(self, x: np.ndarray) -> np.ndarray:
        """View a value as [tokens, rest]; padding left out."""
        axis = row_of(self.tap).token_axis
        rows = np.moveaxis(x, axis, 0) if axis != 1 or x.shape[0] == 1 else x
        flat = rows.reshape(len(self.valid), -1)
        return flat[self.valid]


def clue_at(pass_runs: PassRuns, tap: str, found: Measured, passes: Sequence[PassRuns]) -> Clue | None:
    """Put together what a family of mistakes looks at; None where the tap has no values to fit."""
    if found.value is None or found.truth is None or row_of(tap).is_visibility:
        return None
    value, truth, valid = fitted(pass_runs.one_pass, tap, found.value, found.truth)
    if value.shape != truth.shape:
        return None
    value = _without_pads(value, truth, valid, row_of(tap).token_axis)
    if not np.isfinite(truth).all() or not np.isfinite(value).all():
        return None
    return Clue(pass_runs, tap, found, value.astype(np.float64, copy=False), truth, valid, passes)


def _without_pads(value: np.ndarray, truth: np.ndarray, valid: np.ndarray, axis: int) -> np.ndarray:
    """Take the truth on padding where a dump has values there that are not finite: nobody judges them."""
    if valid.all() or len(valid) != value.shape[axis] or np.isfinite(value).all():
        return value
    return np.where(valid.reshape([-1 if i == axis else 1 for i in range(value.ndim)]), value, truth)


class Family(NamedTuple):
    """A mistake with free parameters."""

    name: str
    groups: frozenset[str] | None  # taps that it is looked for at; None: at any float
    fit: Callable[[Clue], Iterator[Hypothesis]]
    needs: Callable[[Clue], str] = lambda clue: ""  # what else it needs, in words; empty: nothing that is not there
    tokens: int = 1  # of which values are needed: fewer than its numbers tell nothing of them
    only: Callable[[Clue], bool] | None = None  # taps that it can be at; None: any. Others say nothing of it

    def lacks(self, clue: Clue) -> str:
        """Say why it cannot be tried at a tap; empty where it can."""
        count = len(clue.tokens())
        if count < self.tokens:
            unit = "patch" if clue.tap.startswith("vision.") else "token"
            several = {"patch": "patches", "token": "tokens"}[unit] if self.tokens > 1 else unit
            return f"needs at least {self.tokens} {several}, got {count}"
        return self.needs(clue)


def mutant_of(name: str, what: str, rules: dict[str, Rule]) -> TapMutant:
    """Return a fitted mistake as a mutant."""
    return TapMutant(name=name, what=what, needs=Needs(), rules=rules)


def after(group: str, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Rule]:
    """Put a rule in the place of an operation that does the same, and changes the result."""
    return {group: lambda at: at.ops.round(change(RULES[group](at)).astype(at.ops.dtype, copy=False))}
