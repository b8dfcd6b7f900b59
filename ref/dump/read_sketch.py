"""Sketches of tensors in a dump: which values are kept of one, and where they stand in the registry's axes."""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ref.dump.align import Raw, Stored, values_of
from ref.dump.layouts import Fit, axes_of_value, letters_of
from ref.dump.read_arrays import STORED, Files, judged_dtype
from ref.dump.row_keys import Placed, keys_of
from ref.dump.sketched import SketchedTap, SketchedValues
from ref.errors import wanted
from ref.model.taps import row_of
from ref.record import Sketch, sketch_places
from ref.untrusted import quoted

MOST = 2**40  # values in a tensor; places are counted in 64 bits


class Sketches:
    """Collects the sketches of a pass.

    Args:
        files: of the dump.
        said: the dump's "sketch".
        number: of the pass, as its places are hashed.
        placed: where its tokens and keys lie.
        where: the pass, for refusals.
    """

    def __init__(self, files: Files, said: Mapping[str, int] | None, number: int, placed: Placed, where: str):
        self.files, self.number, self.placed, self.where = files, number, placed, where
        self.sketch = Sketch(**said) if said else None
        self.found: dict[str, SketchedTap] = {}

    def raw(self, path: Path, name: str, entry: Mapping[str, Any]) -> Raw:
        """Return what a tensor was, for its axes to be looked at; it cannot be read.

        Args:
            path: of its file.
            name: in dump.json.
            entry: what that says of it.

        Raises:
            BadInput: a dump that does not say how sketches were made, or too large a tensor; kept values and norms of
                other dtypes or shapes than follow from it.
        """
        what, shape, said = f"sketch {quoted(name)}", tuple(entry["shape"]), entry["sketch"]
        if self.sketch is None or "plus" in entry:
            want = "values and seed of sketches" if self.sketch is None else "sketches of sums, without plus"
            raise wanted(what, self.where, want, "none" if self.sketch is None else "plus")
        axis, size = said["axis"], prod(shape)
        if not 0 < size <= MOST or (axis is not None and axis >= len(shape)):
            want = f"1 to {MOST} values, and an axis that there is"
            raise wanted(f"shape of {what}", self.where, want, f"{list(shape)}, axis {axis}")
        tokens = 1 if axis is None else shape[axis]
        count = tokens * -(-self.sketch.values // tokens)
        if count >= size:
            raise wanted(what, self.where, f"a whole tensor, since it has {size} values of {count}", "a sketch")
        kinds = [entry["dtype"], "float64"] if "float" in entry["dtype"] else [entry["dtype"]]
        self._check(path, name, kinds, [count])
        if "float" in entry["dtype"]:
            self._check(path, f"{name}.norms", ["float32"], [tokens])
        return Raw(judged_dtype(entry["dtype"]), shape, _no_values, entry["layout"])

    def _check(self, path: Path, name: str, kinds: list[str], shape: list[int]) -> None:
        kind, found = self.files.get(path).info(name)[:2]
        if STORED[kind] not in kinds or list(found) != shape:
            want = f"{' or '.join(kinds)} {shape}, as dump.json says"
            raise wanted(f"sketch {quoted(name)}", path, want, f"{STORED[kind]} {list(found)}")

    def take(self, path: Path, tap: str, stored: Stored, name: str, entry: Mapping[str, Any]) -> list[dict[str, str]]:
        """Keep a sketch under its tap.

        Args:
            path: of its file.
            tap: ours.
            stored: its shape in the registry's axes, from `raw`.
            name: in its file.
            entry: of dump.json.

        Returns:
            [{"name", "why"}] of one that cannot be compared.
        """
        if stored.way is None:
            return [{"name": stored.foreign, "why": "a sketch of a fused tensor: its parts have none of their own"}]
        if row_of(tap).is_visibility and len(self.placed.keys) < self.placed.lengths[1]:
            return [{"name": stored.foreign, "why": "a sketch of what queries see, where some keys are padding"}]
        axes = axes_of_value(tap, stored.dtype, stored.foreign, self.where).split()

        def read() -> SketchedValues:
            assert stored.way is not None
            return self._values(path, name, axes, stored.way, entry)

        said = entry["sketch"]
        self.found[tap] = SketchedTap(stored.foreign, stored.dtype, said["sha256"], said["nonfinite"], read)
        return []

    def _values(self, path: Path, name: str, axes: list[str], way: Fit, entry: Mapping[str, Any]) -> SketchedValues:
        assert self.sketch is not None
        shape, axis = tuple(entry["shape"]), entry["sketch"]["axis"]
        tokens = 1 if axis is None else shape[axis]
        flat = sketch_places(self.sketch, name, self.number, tokens, prod(shape) // tokens)
        begin = entry["sketch"]["first"]  # one more place
        flat = flat if begin is None else np.append(flat, min(begin, prod(shape) - 1))
        at = np.unravel_index(flat, shape if axis is None else (tokens, *shape[:axis], *shape[axis + 1 :]))
        at = list(at) if axis is None else [*at[1 : axis + 1], at[0], *at[axis + 1 :]]
        along = _along(axis, way)
        places, real, final = self._without_holes(_moved(at, shape, way), axes, way.shape, name)
        first = None if begin is None or not real[-1] else tuple(int(one[-1]) for one in places)
        norms = None
        if "float" in entry["dtype"] and along is not None and final[along + 1 :] == way.shape[along + 1 :]:
            norms = self.files.raw(path, f"{name}.norms").read().astype(np.float64)
            norms = norms[self.placed.tokens] if axes[along] == "t" else norms
        values = values_of(self.files.raw(path, name).read()).reshape(tokens, -1)
        there, *at = (one[: values.size].reshape(values.shape) for one in (real, *places))
        return SketchedValues(values, tuple(at), there, final, norms, along or 0, first)

    def _without_holes(self, places: list[np.ndarray], axes: list[str], shape: tuple[int, ...], name: str):
        """Count places without padding, keys in their order; tell which are no padding, and what shape is left."""
        length, slots = self.placed.lengths
        out, real, final = [], np.ones(len(places[0]), bool), list(shape)
        keys = self.placed.keys  # slots are as many as dump.json says, which no file bears out
        in_order = len(keys) == slots and np.array_equal(keys, np.arange(slots))
        for axis, (letter, place) in enumerate(zip(axes, places, strict=True)):
            kept = None
            if letter == "t" and len(self.placed.tokens) < length:
                kept = self.placed.tokens
            elif letter == "s" and not in_order:
                kept = keys_of(name, shape[axis], self.placed, self.where)
            if kept is not None:
                place, there = _found(kept, place)
                real, final[axis] = real & there, len(kept)
            out.append(place)
        return out, real, tuple(final)


def _no_values() -> np.ndarray:
    raise AssertionError("a sketch has no whole value")


def _moved(at: list[np.ndarray], shape: tuple[int, ...], way: Fit) -> list[np.ndarray]:
    """Bring places along stored axes to the registry's, as einops would bring the values.

    Args:
        at: of each stored axis the places.
        shape: as stored.
        way: the rearrangement.
    """
    left, right = (_sides(side) for side in way.pattern.split(" -> "))
    index: dict[str, np.ndarray] = {}
    sizes = {group[0]: length for group, length in zip(left, shape, strict=True) if len(group) == 1} | way.sizes
    for group, place in zip(left, at, strict=True):
        if group:  # else an axis of length 1
            index |= dict(zip(group, np.unravel_index(place, [sizes[one] for one in group]), strict=True))
    out = []
    for group in right:
        parts = [index[one] for one in group]
        joined = np.ravel_multi_index(parts, [sizes[one] for one in group]) if group else np.zeros_like(at[0])
        out.append(joined)
    return out


def _sides(side: str) -> list[tuple[str, ...]]:
    """List the letters of each axis of one side of a rearrangement; none of an axis of length 1."""
    return [letters_of(group) for group in re.findall(r"\([^)]*\)|\w+", side)]


def _along(axis: int | None, way: Fit) -> int | None:
    """Return which of the registry's axes a stored one is; None where it is several."""
    if axis is None:
        return None
    left, right = (_sides(side) for side in way.pattern.split(" -> "))
    letters = [one for one in left[axis] if way.sizes.get(one) != 1]
    return next((i for i, group in enumerate(right) if list(group) == letters), None)


def _found(kept: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where places stand among those that are kept, in whatever order, and which of them are kept."""
    order = np.argsort(kept)
    at = np.minimum(np.searchsorted(kept[order], places), max(0, len(kept) - 1))
    return order[at], kept[order[at]] == places
