"""Tensors of several ranks as whole ones: slices side by side, parts of a sum added, replicas held ready.

Nothing is read before it is asked for, and of a replica nothing is copied.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ref.dump.align import RankPart, Raw, Stored, align, values_of
from ref.dump.find_tap import find
from ref.dump.layouts import Lengths, axes_of_value, lengths_at
from ref.dump.rank_folders import RankDump
from ref.emulate.operands import ROUND
from ref.errors import wanted
from ref.model.taps import row_of, tap_row
from ref.untrusted import quoted

RawOf = Callable[[Path, str, Mapping[str, Any]], Raw]  # folder, name of the tensor, its entry


class _Held(NamedTuple):
    """A tensor of one rank."""

    dump: RankDump
    name: str  # in its file
    entry: Mapping[str, Any]

    @property
    def rank(self) -> int:
        return self.entry.get("rank", 0) if self.dump.rank is None else self.dump.rank

    @property
    def foreign(self) -> str:
        return self.entry.get("name", self.name)


def tensors_of_ranks(
    ranks: list[RankDump], number: int, names: str, lengths: Lengths, raw_of: RawOf
) -> tuple[dict[str, Stored], list[dict[str, str]]]:
    """Align what all ranks hold of one pass, and put it together.

    Args:
        ranks: from `read_ranks`.
        number: of the pass.
        names: alias table.
        lengths: of the axes of whole tensors.
        raw_of: looks for a tensor in its file.

    Returns:
        (tap -> the whole value, whose `parts` say what each rank holds; what could not be aligned).

    Raises:
        BadInput: as `align`; slices that overlap, leave a hole or are of unlike shapes, sums that lack a rank.
    """
    parts: dict[str, list[RankPart]] = {}
    left: list[dict[str, str]] = []
    for one in ranks:
        for name, entry in one.content["passes"][number]["tensors"].items():
            held = _Held(one, name, entry)
            found = _aligned(held, names, lengths, raw_of)
            if isinstance(found, str):
                left.append({"name": held.foreign, "why": found})
                continue
            for tap, part in found.items():
                _add(parts.setdefault(tap, []), part, left)
    about = f" of pass {number}"
    return {tap: whole_of(tap, several, lengths, ranks, about) for tap, several in parts.items()}, left


def _add(several: list[RankPart], part: RankPart, left: list[dict[str, str]]) -> None:
    """Add what a rank holds of a tap; the first of two that say the same."""
    there = {(one.rank, one.stage, one.kind) for one in several}
    if (part.rank, part.stage, part.kind) in there:
        why = f"rank {part.rank} has the value already"
        left.append({"name": part.stored.foreign, "why": why})
    else:
        several.append(part)


def _aligned(held: _Held, names: str, lengths: Lengths, raw_of: RawOf) -> dict[str, RankPart] | str:
    """Align one rank's tensor by the lengths that its slices have."""
    where, cuts = held.dump.folder / held.entry["file"], held.entry.get("slice", {})
    what = (
        f"slice of {quoted(held.foreign)} of {held.dump.words if held.dump.rank is not None else f'rank {held.rank}'}"
    )
    for letter, (start, stop) in cuts.items():
        if start >= stop:
            raise wanted(what, where, f"start < stop of {letter}", [start, stop])
    _check_axes(held.foreign, names, lengths, cuts, what, where)
    raw = raw_of(held.dump.folder, held.name, held.entry)
    found = align(names, held.foreign, raw, _of_slices(lengths, cuts, raw.layout), where)
    if isinstance(found, str):
        return found
    out = {}
    for tap, stored in found.items():
        axes = axes_of_value(tap, stored.dtype, what, where).split()
        letters = [letter for letter in cuts if letter.lower() in axes]
        part = RankPart(held.rank, held.dump.stage, stored, partial="partial" in held.entry)
        if letters:
            start, stop = cuts[letters[0]]
            length = lengths_at(tap, lengths).get(letters[0].lower(), stop)
            if stop > length:
                raise wanted(what, where, f"{letters[0]} within 0..{length}", f"{start}..{stop}")
            part = part._replace(letter=letters[0], axis=axes.index(letters[0].lower()), start=start, stop=stop)
        if part.partial and row_of(tap).integers:
            raise wanted(f"tensor {quoted(held.foreign)}", where, "floats, since it is a part of a sum", stored.dtype)
        out[tap] = part
    return out


def _check_axes(foreign: str, names: str, lengths: Lengths, cuts: Mapping[str, Any], what: str, where: object) -> None:
    """Refuse slices of axes that a value has not, or of two of them."""
    found = find(names, foreign, lengths.layers, lengths.blocks)
    for one in [] if isinstance(found, str) or not cuts else found:
        axes = getattr(tap_row(one.tap), "axes", "").split()
        count = sum(letter in axes for letter in cuts)
        if count > 1 or (count == 0 and len(found) == 1):
            raise wanted(what, where, f"one axis of {' '.join(axes)}", " ".join(cuts))


def _of_slices(lengths: Lengths, cuts: Mapping[str, list[int]], layout: str) -> Lengths:
    """Return the lengths that a rank's slices have; where query heads lie by key heads, of these too."""
    more = {letter.lower(): stop - start for letter, (start, stop) in cuts.items()}
    text = lengths.text | more
    if "n" in more and "G" in layout.upper() and "g" in text and "K" not in cuts:
        text["k"] = more["n"] // text["g"]
    return lengths._replace(text=text, vision=lengths.vision | more)


def whole_of(tap: str, parts: list[RankPart], lengths: Lengths, ranks: list[RankDump], about: str) -> Stored:
    """Put together what ranks hold of one tap: a replica if there is one, else slices, else the sum of its parts.

    Args:
        tap: its name.
        parts: of the ranks, in their order.
        lengths: of the axes of whole tensors.
        ranks: from `read_ranks`.
        about: ` of pass 0`, for refusals.

    Raises:
        BadInput: as `tensors_of_ranks`.
    """
    several = [[one for one in parts if one.kind == kind] for kind in ("replica", "slice", "partial")]
    whole, slices, sums = several
    for one in (whole, slices, sums):
        _check_alike(one, ranks, about)
    if slices:
        length = lengths_at(tap, lengths).get(slices[0].letter.lower())
        _check_slices(slices, length, ranks, about)
    if sums:
        _check_sum(sums, ranks, about)
    if whole:
        return whole[0].stored._replace(parts=tuple(parts))
    return (_joined(slices) if slices else _added(sums))._replace(parts=tuple(parts))


def _rest(part: RankPart) -> tuple[Any, ...]:
    shape = list(part.stored.shape)
    if part.letter:
        shape[part.axis] = -1
    return part.stored.dtype, part.letter, shape


def _check_alike(parts: list[RankPart], ranks: list[RankDump], about: str) -> None:
    """Refuse ranks whose tensors of one tap have other formats, axes or lengths."""
    for one in parts[1:]:
        if _rest(one) != _rest(parts[0]):
            want, got = (
                f"{part.stored.dtype} {list(part.stored.shape)}{f' by {part.letter}' if part.letter else ''}"
                for part in (parts[0], one)
            )
            what = f"tensor {quoted(one.stored.foreign)}{about} of rank {one.rank}"
            raise wanted(what, _where(ranks, one), f"{want}, as rank {parts[0].rank} has", got)


def _where(ranks: list[RankDump], part: RankPart) -> Path:
    return next(one.folder for one in ranks if one.stage == part.stage and one.rank in (None, part.rank)) / "dump.json"


def _check_slices(slices: list[RankPart], length: int | None, ranks: list[RankDump], about: str) -> None:
    """Refuse slices that overlap in part, or leave a hole."""
    first: dict[tuple[int, int], RankPart] = {}
    for one in slices:
        first.setdefault((one.start, one.stop), one)
    order = [first[key] for key in sorted(first)]
    what, letter = f"slices of {quoted(order[0].stored.foreign)}{about}", order[0].letter
    for a, b in pairwise(order):
        if b.start < a.stop:
            got = f"{a.words} of rank {a.rank} and {b.words} of rank {b.rank}"
            raise wanted(what, _where(ranks, b), "slices that are the same or apart", got)
    end = order[-1].stop if length is None else length
    edges = [0, *(edge for one in order for edge in (one.start, one.stop)), end]
    hole = next((pair for pair in zip(edges[::2], edges[1::2], strict=True) if pair[0] != pair[1]), None)
    if hole:
        lost = sorted(set(range(ranks[0].of)) - {one.rank for one in slices})
        who = f"; nothing of rank {', '.join(map(str, lost[:6]))}" if lost else ""
        got = f"no {letter} {hole[0]}..{hole[1] - 1}{who}"
        raise wanted(what, _where(ranks, order[0]), f"all of {letter} 0..{end - 1}", got)


def _check_sum(sums: list[RankPart], ranks: list[RankDump], about: str) -> None:
    lost = sorted(set(range(ranks[0].of)) - {one.rank for one in sums})
    if lost:
        what = f"parts of the sum {quoted(sums[0].stored.foreign)}{about}"
        want = f"one of each of {ranks[0].of} ranks"
        raise wanted(what, _where(ranks, sums[0]), want, f"none of rank {', '.join(map(str, lost[:6]))}")


def _joined(slices: Iterable[RankPart]) -> Stored:
    """Return slices side by side."""
    first: dict[int, RankPart] = {}
    for one in slices:
        first.setdefault(one.start, one)
    order = [first[start] for start in sorted(first)]
    some = order[0].stored
    shape = list(some.shape)
    shape[order[0].axis] = order[-1].stop
    read = lambda: np.concatenate([one.stored.read() for one in order], axis=order[0].axis)  # noqa: E731
    return Stored(some.foreign, some.dtype, tuple(shape), read)


def _added(sums: list[RankPart]) -> Stored:
    """Return the sum over ranks, rounded once to the format in which they have their parts."""
    some = sums[0].stored

    def read() -> np.ndarray:
        total = np.zeros(some.shape, np.float64)
        for one in sums:
            total += values_of(one.stored.read())
        with np.errstate(over="ignore"):
            return total if some.dtype == "float64" else ROUND[some.dtype](total.astype(np.float32))

    return some._replace(read=read)
