"""Taps: named values of a forward pass, given to whoever listens. A tap never changes a value."""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from ref.errors import nearest, unknown, wanted
from ref.model.tap_rows import LAYER_TAPS, MERGED, TEXT_TAPS, UNREGISTERED, VISION_LAYER_TAPS, VISION_TAPS, TapRow


class Taps(Protocol):
    """What the model is given to report to."""

    def wants(self, name: str) -> bool:
        """Tell whether a value of this name would be kept; expensive values are not formed otherwise."""
        ...

    def __call__(self, name: str, value: np.ndarray) -> np.ndarray:
        """Report a value and return it unchanged."""
        ...


class Silence:
    """Nobody listens: costs one call a tap."""

    def wants(self, name: str) -> bool:
        """Want nothing."""
        return False

    def __call__(self, name: str, value: np.ndarray) -> np.ndarray:
        """Return the value."""
        return value


SILENCE = Silence()


def _read_only(_name: str, value: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written through: no op writes into what it was given, so a copy is not needed."""
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view


class Recorder:
    """Keep every value whose name matches one of the patterns (`*` matches dots too).

    Args:
        patterns: shell patterns of tap names, such as `text.layer.5.*` or `*.attn.probs`.
        keep: what to store of a value; itself by default, read-only. Lets a caller keep slices of large values only,
            and must copy where the values are not this model's, whose ops make new arrays.
    """

    def __init__(self, *patterns: str, keep: Callable[[str, np.ndarray], Any] | None = None):
        self.patterns = [one for one in patterns or ("*",) if set(one) & set("*?[")]
        self.names = frozenset(patterns)  # plain names: a long list of them costs no more than one
        self.keep = keep or _read_only
        self.values: dict[str, Any] = {}

    def wants(self, name: str) -> bool:
        """Tell whether the name matches."""
        return name in self.names or any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def __call__(self, name: str, value: np.ndarray) -> np.ndarray:
        """Store the value under its name; a name comes once a pass."""
        if self.wants(name):
            if name in self.values:
                raise AssertionError(f"tap {name} was reported twice in one pass")
            self.values[name] = self.keep(name, value)
        return value


def check_patterns(patterns: Sequence[str], names: Iterable[str], where: object) -> None:
    """Refuse patterns of which none matches a tap, and names that no tap has.

    Args:
        patterns: as `Recorder`.
        names: of the taps that there are.
        where: what was asked, for the refusal.

    Raises:
        BadInput: no tap matches, or a name without `*` is of no tap. The nearest names are in the refusal.
    """
    names = list(names)
    wrong = [one for one in patterns if not set(one) & set("*?[") and tap_row(one) is None and one not in names]
    known = dict.fromkeys([*names, *map(tap_group, names)])
    if wrong:
        raise unknown("tap", where, wrong[0], known)
    if not any(map(Recorder(*patterns).wants, names)):
        near = nearest(patterns[0], known) if patterns else ""
        want = "a pattern that matches a tap, such as 'text.layer.0.*'" + (f"; near: {near}" if near else "")
        raise wanted("taps", where, want, list(patterns))


class Scope:
    """Taps under a prefix: `Scope(taps, "text.layer.3.")("attn.q", x)` reports `text.layer.3.attn.q`."""

    def __init__(self, taps: Taps, prefix: str):
        self.taps, self.prefix = taps, prefix

    def wants(self, name: str) -> bool:
        """Ask with the prefix before the name."""
        return self.taps.wants(self.prefix + name)

    def __call__(self, name: str, value: np.ndarray) -> np.ndarray:
        """Report with the prefix before the name."""
        return self.taps(self.prefix + name, value)


def tap_names(layers: int, cached: bool = False, vision_layers: int = 0) -> list[str]:
    """List the names of every tap of a pass, in the order of execution.

    Args:
        layers: L.
        cached: whether the pass keeps a KV cache (adds `cache.k`, `cache.v`, `cache.positions`).
        vision_layers: blocks of the vision tower; 0 for a pass without images.

    Source: own; README, "Taps and dumps".
    Differs: other projects' names and axes of the same values are in `ref/dump/aliases.py`.
    """
    inside = [name for name in LAYER_TAPS if cached or not name.startswith("cache.")]
    layer_taps = [f"text.layer.{i}.{name}" for i in range(layers) for name in inside]
    text = ["text.embed", *layer_taps, "text.final_norm", "text.logits"]
    if not vision_layers:
        return text
    return [*vision_tap_names(vision_layers), "text.embed", *MERGED, *text[1:]]


def vision_tap_names(layers: int) -> list[str]:
    """List the names of every tap of the vision tower and projector, in the order of execution."""
    names = list(VISION_TAPS)
    blocks = [f"vision.layer.{i}.{name}" for i in range(layers) for name in VISION_LAYER_TAPS]
    return [*names[:3], *blocks, *names[3:]]


LAYER = "0|[1-9][0-9]{0,3}"  # a layer as names write it: one spelling a layer


@lru_cache(maxsize=2**14)
def tap_row(name: str) -> TapRow | None:
    """Return a tap's row of the registry; None for a name that is not registered."""
    parts = name.split(".")
    if parts[1:2] == ["layer"]:
        if not re.fullmatch(LAYER, "".join(parts[2:3])):
            return None
        rows = {"text": LAYER_TAPS, "vision": VISION_LAYER_TAPS}.get(parts[0], {})
        return rows.get(".".join(parts[3:]))
    return (TEXT_TAPS | VISION_TAPS | MERGED).get(name)


def row_of(name: str) -> TapRow:
    """Return a tap's row of the registry; for a name that is not registered one that says nothing."""
    return tap_row(name) or UNREGISTERED


def tap_group(name: str) -> str:
    """Return the name with its layer number replaced by `*`: the row that reports put it in."""
    parts = name.split(".")
    return ".".join([*parts[:2], "*", *parts[3:]]) if parts[1:2] == ["layer"] else name


def layer_of(name: str) -> int | None:
    """Return the layer number in a tap's name, None outside layers."""
    return int(name.split(".")[2]) if ".layer." in name else None


def prefix_of(name: str) -> str:
    """Return what stands before a tap's name inside its layer: `text.layer.3.`, or its first word outside layers."""
    parts = name.split(".")
    return ".".join(parts[:3]) + "." if parts[1:2] == ["layer"] else parts[0] + "."


def inputs_of(name: str) -> set[str]:
    """Return the taps that the registry says a value is made from; outside layers it has their whole names."""
    prefix = "" if layer_of(name) is None else prefix_of(name)
    return {prefix + one for one in row_of(name).inputs}
