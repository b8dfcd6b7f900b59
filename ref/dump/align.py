"""Align: which tap a foreign tensor is, by table, and its axes brought to the registry's."""

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

import einops
import numpy as np

from ref.dump.aliases import Part
from ref.dump.claims import check_model as check_model
from ref.dump.claims import check_prompt as check_prompt
from ref.dump.find_tap import Found, find
from ref.dump.layouts import (
    Fit,
    Lengths,
    axes_of_value,
    fit,
    layouts_that_fit,
    lengths_at,
    letters_of,
    sides_of,
    written,
)
from ref.errors import BadInput, wanted
from ref.model.taps import layer_of
from ref.ops.rounding import widen_bfloat16
from ref.untrusted import let_go, quoted


class Stored(NamedTuple):
    """A tensor of a dump, aligned: `shape` and what is read are in the registry's axes."""

    foreign: str
    dtype: str  # as it is stored: float16, bfloat16, float32, float64, int64, bool
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]  # as it is stored; bfloat16 as its bits, or widened already
    parts: "tuple[RankPart, ...]" = ()  # what each rank holds of it; empty of a dump without ranks
    way: Fit | None = None  # from how it is stored; None of a part of a fused tensor

    def load(self) -> np.ndarray:
        """Return the values."""
        return values_of(self.read())

    def let_go(self) -> None:
        """Tell the system that what was read of files is not needed for now."""
        for one in [part.stored for part in self.parts] or [self]:
            let_go(one.read())


class RankPart(NamedTuple):
    """What one rank holds of a tap: a slice of it, a part of a sum, or all of it."""

    rank: int  # of tensor parallelism
    stage: int  # rank of pipeline parallelism
    stored: Stored
    letter: str = ""  # of the axis that it is a slice of
    axis: int = -1
    start: int = 0
    stop: int = 0
    partial: bool = False

    @property
    def kind(self) -> str:
        """Tell what it is."""
        return "partial" if self.partial else "slice" if self.letter else "replica"

    @property
    def words(self) -> str:
        """Say what it is: `N 2..3`."""
        return f"{self.letter} {self.start}..{self.stop - 1}" if self.letter else self.kind


def values_of(stored: np.ndarray) -> np.ndarray:
    """Return what has been read as values: bfloat16's bits and float16 as float32 (Numba has neither), others as is."""
    if stored.dtype == np.uint16:
        return widen_bfloat16(stored)
    return stored.astype(np.float32) if stored.dtype == np.float16 else stored


class Raw(NamedTuple):
    """A tensor as it lies in a file."""

    dtype: str  # as in Stored
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]  # integers as int64; bfloat16 as its bits, or widened already
    layout: str = ""  # its axes, as `B N T H`; empty: the table's


def align(names: str, foreign: str, raw: Raw, lengths: Lengths, where: object, row: int = 0) -> dict[str, Stored] | str:
    """Bring one foreign tensor to the registry's axes.

    Args:
        names: alias table of the name.
        foreign: the name.
        raw: the tensor. Its layout wins over the table's; a batch axis of length 1 may be left out.
        lengths: of the axes.
        where: the file, for refusals.
        row: of the batch; the result has this one alone.

    Returns:
        Tap name -> Stored, several of a fused tensor; or why it is none of them.

    Raises:
        BadInput: a layout that is no layout of the tap, or a shape or dtype that does not fit; the line names the
            layout that would, if one does.

    Source: `ref.dump.aliases`; README, "Taps and dumps".
    """
    found = find(names, foreign, lengths.layers, lengths.blocks)
    if isinstance(found, str):
        return found
    out: dict[str, Stored] = {}
    for one in found:
        count = lengths.layers if one.tap.startswith("text.") else lengths.blocks
        layer = layer_of(one.tap)
        if count is not None and layer is not None and layer >= count:
            return f"the model has {count} layers, from 0"
        placed = _place(foreign, one, raw, lengths, where, row)
        if isinstance(placed, str):
            return placed
        out[one.tap] = placed
    return out


def _place(foreign: str, one: Found, raw: Raw, lengths: Lengths, where, row: int) -> Stored | str:
    what = f"tensor {quoted(foreign)[1:-1]}"
    axes, known = axes_of_value(one.tap, raw.dtype, what, where), lengths_at(one.tap, lengths)
    if raw.layout and one.part:
        raise wanted(f"layout of {what}", where, "none: it is fused, and the table says how", raw.layout)
    if raw.layout:
        left, right = sides_of(raw.layout, axes, what, where)
    else:
        left, right = one.how.split(" -> ") if one.how else (axes, axes)
    cut = _cut(one.part, raw.shape, known, what, where) if one.part else None
    shape = _shape_after(raw.shape, cut)
    way = fit(left, right, axes, shape, known, lengths.keys)
    if way is None:
        why = _partial(left, right, axes, shape, known, lengths.keys)
        if why:
            return why
        raise _misfit(what, where, axes, known, lengths.keys, shape, left)
    batched = axes[0] == "b" and lengths.text["b"] > 1

    def read() -> np.ndarray:
        value = raw.read()
        value = value[cut] if cut else value
        value = einops.rearrange(value, way.pattern, **way.sizes)
        return value[row : row + 1] if batched else value

    final = (1, *way.shape[1:]) if batched else way.shape
    return Stored(foreign, raw.dtype, final, read, way=None if cut or batched else way)


def _cut(part: Part, shape, known: Mapping[str, int], what: str, where) -> tuple[slice, ...]:
    """Return the slices that a part of a fused tensor is."""
    axis, number, parts = part
    missing = {letter for group in parts for letter in letters_of(group)} - set(known)
    if -len(shape) <= axis < len(shape):
        axis %= len(shape)
        sizes = [prod(known.get(letter, 0) for letter in letters_of(group)) for group in parts]
        if len(set(parts)) == 1 and shape[axis] % len(parts) == 0:  # equal parts need no known lengths
            sizes = [shape[axis] // len(parts)] * len(parts)
        elif missing:
            raise _lengths_needed(what, where, missing, shape)
        if sum(sizes) == shape[axis]:
            start = sum(sizes[:number])
            return (*[slice(None)] * axis, slice(start, start + sizes[number]))
    want = f"parts of {' + '.join(parts).upper()} along axis {part[0]}"
    raise wanted(f"shape of {what}", where, want, list(shape))


def _shape_after(shape, cut: tuple[slice, ...] | None) -> tuple[int, ...]:
    if cut is None:
        return tuple(shape)
    return (*shape[: len(cut) - 1], cut[-1].stop - cut[-1].start, *shape[len(cut) :])


def _partial(left, right, axes: str, shape, known: Mapping[str, int], keys: int) -> str:
    """Say why a tensor holds less or more than the whole value, where nothing else is wrong with it."""
    letters = axes.split()
    if known.get("t", 1) > 1 and "t" in letters and fit(left, right, axes, shape, {**known, "t": 1}, keys):
        return f"it holds 1 of {known['t']} tokens"
    longer = fit(left, right, axes, shape, known, 2**62) if "s" in letters else None
    if longer:
        return f"it has {longer.shape[letters.index('s')]} keys where there are {keys}: cut those that are none"
    return ""


def _misfit(what: str, where, axes: str, known: Mapping[str, int], keys: int, shape, left: str) -> BadInput:
    """Build the refusal of a shape, naming the layouts that it would fit as."""
    merged = _merged(left)
    missing = {letter for group in merged for letter in letters_of(group) if letter not in known}
    if any(len([x for x in letters_of(group) if x not in known]) > 1 for group in merged):
        return _lengths_needed(what, where, missing, shape)
    lengths = [{"s": f"<={keys}", "pair": "2"}.get(axis, str(known.get(axis, "?"))) for axis in axes.split()]
    fits = layouts_that_fit(axes, shape, known, keys)
    hint = f"; fits as {' or '.join(fits)}: say so in its layout (bare files: 'name [{fits[0]}]')" if fits else ""
    return wanted(f"shape of {what}", where, f"{written(axes)} = [{', '.join(lengths)}]", f"{list(shape)}{hint}")


def _merged(left: str) -> list[str]:
    return [group for group in left.replace("(", "|(").replace(")", ")|").split("|") if group.startswith("(")]


def _lengths_needed(what: str, where, missing: set[str], shape) -> BadInput:
    want = f"known lengths {' '.join(sorted(missing)).upper()} to split it by: say whose weights these are"
    return wanted(f"shape of {what}", where, want, list(shape))


def align_all(
    raw: Mapping[str, Raw], names: str, lengths: Lengths, where: object, row: int = 0
) -> tuple[dict[str, Stored], list[dict[str, str]]]:
    """Align the tensors of one pass; the first of several that are the same tap is taken.

    Args:
        raw: foreign name -> tensor.
        names: alias table.
        lengths: of the axes.
        where: the file, for refusals.
        row: of the batch.

    Returns:
        (tap name -> Stored, what could not be aligned: {"name", "why"}).

    Raises:
        BadInput: as `align`.
    """
    tensors: dict[str, Stored] = {}
    unaligned: list[dict[str, str]] = []
    for foreign, one in raw.items():
        found = align(names, foreign, one, lengths, where, row)
        if isinstance(found, str):
            unaligned.append({"name": foreign, "why": found})
            continue
        for tap, stored in found.items():
            if tap in tensors:
                unaligned.append({"name": foreign, "why": f"the same tap as {tensors[tap].foreign}: {tap}"})
            else:
                tensors[tap] = stored
    return tensors, unaligned
