"""The models that mistakes are planted into, their clean runs, and where a planted run first differs from one."""

import copy
import tempfile
from collections.abc import Callable, Set
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

import ref
from ref.capture.transformers import build_model, capture
from ref.dump.write import load_pass, read_dump
from ref.model.taps import tap_names, tap_row
from ref.weights.resolve import Loaded

from .case import Case, NoDraw, Planted, Scene
from .prompts import Prompt, prompt_for

# What a mistake must move the worst token of its tap by, relative to it, or the whole tap by the share WHOLE of that:
# five times half a unit of bfloat16; of float32 a hundred times what another order of sums does.
LEAST = {"float32": 1e-5, "bfloat16": 1e-2}
WHOLE = 0.4
# What a change of basis may move the logits by, relative to them: sums in another order through all layers, and in
# bfloat16 weights that are rounded again.
LOGITS = {"float32": 1e-4, "bfloat16": 5e-2}
DRAWS = 12

Passes = list[dict[str, np.ndarray]]


class Difference(NamedTuple):
    """The first value of a planted run that differs from the clean one."""

    tap: str
    number: int  # of the pass
    moved: float  # as `moved_by`


class Subject(NamedTuple):
    """A model in a dtype."""

    name: str
    dtype: str
    loaded: Loaded
    model: Any

    def prompt(self, kind: str) -> Prompt:
        """Return the prompt of a kind."""
        return prompt_for(self.loaded, self.name, kind)

    def scene(self, model: Any, kind: str, seed: str, taken: Set[int]) -> Scene:
        """Set out what a mistake is drawn from."""
        vision = self.loaded.vision and self.loaded.vision.config
        config = self.loaded.params.config
        return Scene(model, self.name, self.dtype, config, vision, self.prompt(kind), Random(seed), set(taken))

    def copied(self) -> Any:
        """Copy the model; the table of the embedding stays one, for its size: no mistake writes into it."""
        table = self.model.get_input_embeddings().weight
        return copy.deepcopy(self.model, {id(table): table})

    def write(self, model: Any, kind: str, folder: Path) -> Passes:
        """Capture a model, and return its passes."""
        prompt = self.prompt(kind)
        capture(model, prompt.ids, folder, weights=self.name, **prompt.arguments())
        return [load_pass(folder, one) for one in read_dump(folder)["passes"]]

    def order(self, cached: bool) -> list[str]:
        """List taps in the order of execution."""
        vision = self.loaded.vision.config.layers if self.loaded.vision else 0
        return tap_names(self.loaded.params.config.layers, cached, vision)


@cache
def subject(name: str, dtype: str) -> Subject:
    """Build a subject; it is kept."""
    return Subject(name, dtype, ref.load(name), build_model(name, dtype, "eager"))


@cache
def clean(name: str, dtype: str, kind: str) -> Passes:
    """Return what the clean model computes of a prompt; it is kept."""
    one = subject(name, dtype)
    with tempfile.TemporaryDirectory() as temporary:
        return one.write(one.model, kind, Path(temporary) / "dump")


def first_difference(one: Subject, kind: str, passes: Passes) -> Difference | None:
    """Find the first value that differs from the clean run; values that either run does not show are passed over."""
    for number, (own, right) in enumerate(zip(passes, clean(one.name, one.dtype, kind), strict=True)):
        for tap in one.order(True):
            if tap in own and tap in right and (moved := moved_by(tap, own[tap], right[tap])):
                return Difference(tap, number, moved)
    return None


def moved_by(tap: str, own: np.ndarray, right: np.ndarray) -> float:
    """Return how far the worst token moved, relative to it, or how far all did, divided by WHOLE; whichever is more.

    Infinity stands for a change of integers or of shape.
    """
    if own.shape != right.shape:
        return np.inf
    row = tap_row(tap)
    if own.dtype.kind in "iub" or row is None:
        return 0.0 if np.array_equal(own, right) else np.inf
    a, b = (
        np.moveaxis(x.astype(np.float64), row.token_axis, 0).reshape(x.shape[row.token_axis], -1) for x in (own, right)
    )
    with np.errstate(all="ignore"):
        shares = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
        whole = np.linalg.norm(a - b) / np.linalg.norm(b) / WHOLE
    return float(np.nan_to_num([whole, *shares], nan=0.0, posinf=1.0).max())


def logits_moved(one: Subject, kind: str, passes: Passes) -> float:
    """Return how far the logits of all passes moved, relative to them."""
    right = clean(one.name, one.dtype, kind)
    a, b = (np.concatenate([x["text.logits"].astype(np.float32).ravel() for x in some]) for some in (passes, right))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


class Drawn(NamedTuple):
    """A mistake whose numbers change something: how it is planted again, and what the run with it shows."""

    case: Case
    seed: str
    taken: set[int]  # layers that had a mistake before it
    takes: set[int]  # layers that have this one
    planted: Planted
    found: Difference
    redrawn: int


def draw(one: Subject, case: Case, seed: str, folder: Callable[[int], Path], taken: Set[int] = frozenset()) -> Drawn:
    """Draw numbers until the mistake moves its tap by more than `LEAST`, and capture the model with it.

    Args:
        one: the subject.
        case: the kind of mistake.
        seed: of the numbers.
        folder: of an attempt, for its dump.
        taken: layers that have a mistake already.

    Raises:
        NoDraw: none of `DRAWS` attempts does.
        AssertionError: a run differs first at another tap than the case says.
    """
    moved = 0.0
    for attempt in range(DRAWS):
        model, key = one.copied(), f"{seed} {one.name} {one.dtype} {case.name} {attempt}"
        scene = one.scene(model, case.prompt, key, taken)
        planted = case.plant(scene)
        try:
            passes = one.write(model, case.prompt, folder(attempt))
        finally:
            if planted.undo:
                planted.undo()
        found = first_difference(one, case.prompt, passes)
        if found and found.moved > LEAST[one.dtype]:
            assert found.tap in planted.taps, f"{case.name}: {planted.drawn} changes {found.tap} before {planted.taps}"
            return Drawn(case, key, set(taken), scene.taken - taken, planted, found, attempt)
        moved = max(moved, found.moved if found else 0.0)
    raise NoDraw(f"{DRAWS} draws move their tap by at most {moved:.1e}; {LEAST[one.dtype]:.0e} is wanted")
