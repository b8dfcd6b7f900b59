"""Choices: which part of a dump is judged, where all of it would take too long."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from ref.config import TextConfig
from ref.emulate.stages import Stage
from ref.errors import wanted

ENDS = ("vision", "embed", "final", "logits")
WORDS = f"layers and ranges such as 3,9-11, and {', '.join(ENDS)}"
LONGEST = 10_000  # characters


class Choice(NamedTuple):
    """What of a dump is judged; empty: all."""

    layers: frozenset[int] | None = None  # of the text model
    ends: frozenset[str] = frozenset()  # beside layers
    taps: tuple[str, ...] = ()  # patterns

    def has(self, stage: Stage, tap: str) -> bool:
        """Tell whether a tap is judged."""
        return self.covers(stage) and (not self.taps or any(fnmatchcase(tap, one) for one in self.taps))

    def covers(self, stage: Stage) -> bool:
        """Tell whether a stage is looked at."""
        if self.layers is None:
            return True
        if stage.name == "layer":
            return stage.layer in self.layers
        return stage.name.partition(".")[0] in self.ends

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.layers is None and not self.taps


ALL = Choice()


def chosen(
    layers: str | None, taps: Sequence[str] | None, sample: int | None, config: TextConfig, known: Iterable[str]
) -> Choice:
    """Read what is to be judged.

    Args:
        layers: such as `3,9-11` or `embed,0-5`; None: all.
        taps: patterns such as `text.layer.*.attn.q`; None or none: all.
        sample: how many layers are to stand for all; None: all.
        config: of the model.
        known: taps that the dump has.

    Raises:
        BadInput: no such layers; a pattern that fits no tap of the dump; layers and a sample of them.
    """
    if layers is not None and sample is not None:
        raise wanted("--sample", "compare", "either --layers or --sample", "both")
    patterns, known = tuple(taps or ()), list(known)
    for pattern in patterns:
        if not any(fnmatchcase(tap, pattern) for tap in known):
            raise wanted(
                "--taps", "compare", "a pattern of taps that the dump has, such as 'text.layer.*.out'", pattern
            )
    if sample is not None:
        return Choice(frozenset(sampled(sample, config)), frozenset(ENDS) - {"vision"}, patterns)
    if layers is None:
        return Choice(taps=patterns)
    return _listed(layers, config)._replace(taps=patterns)


def _listed(layers: str, config: TextConfig) -> Choice:
    numbers: set[int] = set()
    ends: set[str] = set()
    for part in layers[:LONGEST].split(","):
        some = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part.strip())
        if part.strip() in ENDS:
            ends.add(part.strip())
        elif some and int(some[1]) <= int(some[2] or some[1]) < config.layers:
            numbers |= set(range(int(some[1]), int(some[2] or some[1]) + 1))
        else:
            want = f"{WORDS}; the model has layers 0 to {config.layers - 1}"
            raise wanted("--layers", "compare", want, part.strip() or "nothing")
    return Choice(frozenset(numbers), frozenset(ends))


def sampled(count: int, config: TextConfig) -> list[int]:
    """Choose layers that stand for all: the first and the last, and others spread evenly; from three on of both kinds.

    Args:
        count: how many.
        config: of the model.

    Raises:
        BadInput: fewer than 2; the first and the last are always there.
    """
    if count < 2:
        raise wanted("--sample", "compare", "2 layers or more", count)
    last, count = config.layers - 1, min(count, config.layers)
    numbers = {round(i * last / (count - 1)) for i in range(count)}
    for kind in (True, False):
        of_kind = [i for i in range(config.layers) if config.is_global(i) == kind]
        inner = numbers - {0, last}
        if inner and of_kind and not numbers & set(of_kind):
            least = min(inner, key=lambda i: abs(i - of_kind[0]))
            numbers = numbers - {least} | {min(of_kind, key=lambda i: abs(i - least))}
    return sorted(numbers)


def left_out(choice: Choice, judged: int, of_dump: int, first_cut: str) -> list[str]:
    """Say in sentences what was not looked at.

    Args:
        choice: what was judged.
        judged: how many taps.
        of_dump: how many the dump has.
        first_cut: the layer from which on nothing is known from the prompt; empty: none.
    """
    if choice.is_all:
        return []
    lines = [f"{of_dump - judged} of the {of_dump} taps of the dump were not looked at: {_said(choice)}"]
    if first_cut:
        why = "the layers before it were left out"
        lines.append(f"what has gathered from the prompt on was not measured from {first_cut} on: {why}")
    return lines


def _said(choice: Choice) -> str:
    parts = []
    if choice.layers is not None:
        parts.append(f"only layers {ranges(choice.layers)}{''.join(f', {one}' for one in sorted(choice.ends))}")
    if choice.taps:
        parts.append(f"only taps {' '.join(choice.taps)}")
    return " and ".join(parts)


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as `3, 9-11`; `none` where there are none."""
    out: list[list[int]] = []
    for one in sorted(numbers):
        if out and one == out[-1][1] + 1:
            out[-1][1] = one
        else:
            out.append([one, one])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in out) or "none"
