"""What a case of the field is: a mistake whose numbers are drawn, where it must be found, and by what name."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from ref.config import TextConfig, VisionConfig

from .prompts import Prompt

BOTH = ("tiny", "270m")


class NoDraw(Exception):
    """No numbers, or no layer, were found that would do."""


class About(NamedTuple):
    """A number that a fit may miss by a share of it; without it numbers, words and lists must be equal."""

    value: float
    within: float = 0.02


class AnyOf(NamedTuple):
    """Values of which each is right."""

    values: tuple[Any, ...]


class Answer(NamedTuple):
    """A name that says what was planted, and the parameters that it must have."""

    mutant: str
    parameters: Mapping[str, Any] = MappingProxyType({})


class Planted(NamedTuple):
    """What a planted mistake must be reported as."""

    taps: tuple[str, ...]  # the first one wrong; others that name the same operation's mistake follow
    answers: tuple[Answer, ...]
    drawn: str  # in words
    undo: Callable[[], Any] | None = None


class Scene(NamedTuple):
    """What a mistake is planted into, and where its numbers are drawn from."""

    model: Any
    subject: str
    dtype: str
    config: TextConfig
    vision: VisionConfig | None
    prompt: Prompt
    draw: Random
    taken: set[int]  # layers that have a mistake already

    @property
    def tokens(self) -> int:
        """Return T of the prompt."""
        return len(self.prompt.ids)

    @property
    def sliding(self) -> list[int]:
        """List the local layers."""
        return [i for i in range(self.config.layers) if not self.config.is_global(i)]

    @property
    def full(self) -> list[int]:
        """List the global layers."""
        return [i for i in range(self.config.layers) if self.config.is_global(i)]

    def layer(self, among: list[int] | None = None) -> int:
        """Draw a layer that has no mistake yet; not the first, so that finding it means something."""
        every = range(1, self.config.layers) if among is None else among
        free = [i for i in every if i and i not in self.taken]
        if not free:
            raise NoDraw("every layer of the kind has a mistake already")
        chosen = self.draw.choice(free)
        self.taken.add(chosen)
        return chosen

    def other(self, than: int) -> int:
        """Draw any other layer."""
        return self.draw.choice([i for i in range(self.config.layers) if i != than])

    def permutation(self, length: int, but: tuple[list[int], ...] = ()) -> list[int]:
        """Draw an order that is neither the right one nor its reverse nor one of `but`."""
        right = list(range(length))
        while True:
            order = self.draw.sample(right, length)
            if order not in (right, right[::-1], *but):
                return order

    def some(self, things: Sequence[int], count: int) -> list[int]:
        """Draw so many, in their order."""
        return sorted(self.draw.sample(things, count))

    def span(self, length: int) -> tuple[int, int]:
        """Draw a range of channels, an eighth to a half of all."""
        size = self.draw.randint(max(1, length // 8), length // 2)
        start = self.draw.randint(0, length - size)
        return start, start + size


class Case(NamedTuple):
    """A kind of mistake."""

    name: str
    plant: Callable[[Scene], Planted]
    prompt: str  # text, cached, images or rows: what shows it
    subjects: tuple[str, ...]
    dtypes: tuple[str, ...]  # those in which it can be more than rounding
    joins: bool  # whether it may be one of three: it stays in one layer, or at an end of the model


CASES: dict[str, Case] = {}


def case(prompt: str = "text", on: tuple[str, ...] = BOTH, wide: bool = False, joins: bool = False) -> Callable:
    """Register a function that plants a mistake.

    Args:
        prompt: text, cached, images or rows.
        on: subjects.
        wide: whether it rounds in a way that only float32 can show.
        joins: whether `--three` may plant it beside others.
    """

    def registered(plant: Callable[[Scene], Planted]) -> Callable[[Scene], Planted]:
        dtypes = ("float32",) if wide else ("float32", "bfloat16")
        CASES[plant.__name__] = Case(plant.__name__, plant, prompt, on, dtypes, joins)
        return plant

    return registered


def text_tap(i: int, name: str) -> str:
    """Return the name of a layer's tap."""
    return f"text.layer.{i}.{name}"
