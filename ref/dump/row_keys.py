"""Passes of version 2: what the cache holds before a pass, which of its tokens are padding, which slot a key lies in.

The judge knows rows of keys without holes. A pass is brought to that: padding is cut out of its tokens and keys, keys
that lie in slots are put in their order; what was dropped of the cache, or moved, stays as `Kept`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ref.dump.align import Stored
from ref.dump.layouts import axes_of_value
from ref.dump.opened import Kept
from ref.errors import wanted
from ref.model.taps import row_of


class Placed(NamedTuple):
    """A pass, without padding but for its left pads, and where its tokens and keys lie in the tensors."""

    row: dict[str, Any]  # ids, positions, cached, image_blocks, left_pads
    kept: Kept | None
    tokens: np.ndarray  # [T'] along axes of tokens
    keys: np.ndarray  # [S'] along axes of keys
    lengths: tuple[int, int]  # T and S of the tensors
    slotted: bool  # whether keys lie in slots


class RowKeys:
    """The keys that one row's passes leave in the cache, one pass after the other."""

    def __init__(self) -> None:
        self.real = np.zeros(0, bool)  # of each key: no padding, or a left pad
        self.slots = np.zeros(0, np.int64)
        self.pads = 0  # left pads
        self.slotted = False
        self.packed = False  # whether another prompt begins behind the first
        self.last = -1  # position of the newest key

    def place(self, row: Mapping[str, Any], what: str, where: object) -> Placed:
        """Bring the next pass of the row to keys without holes, and take note of those that it leaves.

        Args:
            row: of `dump.json`.
            what: the pass, for refusals.
            where: the file, for refusals.

        Raises:
            BadInput: keys that are not there, counts and slots that do not go together, positions that do not go on.
        """
        before, moved = self._drop(row, what, where)
        ids, positions = np.array(row["ids"], np.int64), np.array(row["positions"], np.int64)
        if len(positions) != len(ids):
            raise wanted(f"positions of {what}", where, f"{len(ids)}, as ids", len(positions))
        real = positions >= 0
        if not len(self.real):
            self.pads = row["left_pads"]
            real[: self.pads] = True
        if not real.any():
            raise wanted(f"positions of {what}", where, "a token that is no padding", "-1 at all of them")
        self.packed |= bool((positions[real][1:] == 0).any())
        cached = int(self.real.sum())
        self._check_cached(row, what, where)
        self._check_positions(row, positions[real], what, where)
        self._append(row, real, what, where)
        keys = np.flatnonzero(self.real)
        blocks = [[int(self.real[:start].sum()), int(self.real[:stop].sum())] for start, stop in row["image_blocks"]]
        dense = {"ids": ids[real], "positions": positions[real], "cached": cached, "image_blocks": blocks}
        kept = None if before is None else Kept(before, moved)
        length = row.get("cache_slots", len(self.real))
        taken = self.slots[keys] if self.slotted else keys
        return Placed(
            dense | {"left_pads": self.pads}, kept, np.flatnonzero(real), taken, (len(ids), length), self.slotted
        )

    def _drop(self, row: Mapping[str, Any], what: str, where: object):
        """Drop the keys that are no longer there; return which of the real ones are left, and how far they moved."""
        if "kept" not in row:
            return None, np.zeros(0, np.int64)
        total, order, target = len(self.real), [], []
        for start, stop, position in row["kept"]:
            if not ((order[-1] if order else -1) < start < stop <= total and position < total):
                want = f"ranges of the {total} keys that are there, one behind the other"
                raise wanted(f"kept of {what}", where, want, row["kept"])
            order += range(start, stop)
            target += range(position, position + stop - start)
        chosen, real = np.array(order, np.int64), self.real.copy()
        number = np.cumsum(real) - 1  # among the real ones
        now = np.array(target, np.int64)[real[chosen]]
        if not np.array_equal(now, np.arange(len(now))):
            want = "positions 0, 1, 2, ... of the keys that are left"
            raise wanted(f"kept of {what}", where, want, row["kept"])
        if self.pads or self.packed:
            got = f"{self.pads} left pads" if self.pads else "packed prompts"
            raise wanted(f"kept of {what}", where, "a row of one prompt without left pads", got)
        index = number[chosen][real[chosen]]
        # who says no slots keeps keys one behind the other
        self.real, self.slots = self.real[chosen], self.slots[chosen] if self.slotted else np.arange(len(chosen))
        return index, now - index

    def _check_cached(self, row: Mapping[str, Any], what: str, where: object) -> None:
        if row["cached"] != len(self.real):
            raise wanted(f"cached of {what}", where, f"the {len(self.real)} keys that are there", row["cached"])
        if row["left_pads"] not in (0, self.pads):
            raise wanted(f"left_pads of {what}", where, f"{self.pads}, as the row began with, or 0", row["left_pads"])
        if not len(self.real) and self.pads >= len(row["ids"]):
            raise wanted(f"left_pads of {what}", where, f"fewer than {len(row['ids'])}", self.pads)

    def _check_positions(self, row: Mapping[str, Any], positions: np.ndarray, what: str, where: object) -> None:
        """Refuse a pass that goes back to a key that is there, but to 0, where nothing says that keys were dropped.

        Positions that go back inside a pass may be a port's mistake, which is to be found.
        """
        before = self.last if len(self.real) and "kept" not in row else -1
        there = positions[positions >= 0]
        if len(there) and 0 < there[0] < min(before, int(self.real.sum())):
            want = "positions that go on, or begin at 0 again (kept says which keys are left where some were dropped)"
            raise wanted(f"positions of {what}", where, want, f"{there[0]} behind {before}")
        self.last = int(there[-1]) if len(there) else before

    def _append(self, row: Mapping[str, Any], real: np.ndarray, what: str, where: object) -> None:
        self.slotted |= "slots" in row or "cache_slots" in row
        count = row.get("cache_slots", len(self.real) + len(real))
        slots = np.array(row.get("slots", range(len(self.real), len(self.real) + len(real))), np.int64)
        if len(slots) != len(real):
            raise wanted(f"slots of {what}", where, f"{len(real)}, as ids", len(slots))
        self.real, self.slots = np.concatenate([self.real, real]), np.concatenate([self.slots, slots])
        taken = self.slots[self.real]
        if len(np.unique(taken)) < len(taken) or taken.max(initial=0) >= count:
            raise wanted(f"slots of {what}", where, f"one of the {count} of the cache for each key", row.get("slots"))


def without_holes(tensors: Mapping[str, Stored], placed: Placed, where: object) -> dict[str, Stored]:
    """Cut padding out of the tensors of a pass, and put keys in their order.

    Args:
        tensors: by tap, in the registry's axes.
        placed: from `RowKeys.place`.
        where: the file, for refusals.

    Raises:
        BadInput: an axis of keys of another length where some keys are padding or lie in slots.
    """
    length, slots = placed.lengths
    whole = len(placed.tokens) == length and len(placed.keys) == slots
    if whole and np.array_equal(placed.keys, np.arange(slots)):
        return dict(tensors)
    return {tap: _chosen(tap, one, placed, where) for tap, one in tensors.items()}


def _chosen(tap: str, one: Stored, placed: Placed, where: object) -> Stored:
    if tap.startswith("vision."):
        return one
    shape, chosen = list(one.shape), {}
    for axis, letter in enumerate(axes_of_value(tap, one.dtype, one.foreign, where).split()):
        if letter == "t":
            chosen[axis] = placed.tokens
        elif letter == "s":
            chosen[axis] = keys_of(one.foreign, shape[axis], placed, where)
    for axis, index in chosen.items():
        shape[axis] = len(index)
    if any(part.letter == "T" for part in one.parts):
        raise wanted(
            f"tensor {one.foreign}", where, "slices of an axis other than T, since some tokens are padding", "T"
        )
    parts = tuple(part._replace(stored=_chosen(tap, part.stored, placed, where)) for part in one.parts)
    ranges = row_of(tap).is_visibility and one.dtype != "bool"
    if ranges and placed.slotted:
        raise wanted(f"tensor {one.foreign}", where, "a matrix [B, T, S] of bool, since keys lie in slots", one.dtype)

    def read() -> np.ndarray:
        value = one.read()
        for axis, index in chosen.items():
            value = np.take(value, index, axis=axis)
        return np.searchsorted(placed.keys, value) if ranges else value  # keys before each place

    return one._replace(shape=tuple(shape), read=read, parts=parts)


def keys_of(name: str, length: int, placed: Placed, where: object) -> np.ndarray:
    """Return where the keys lie along an axis of some length; a local layer may hold the newest only."""
    total = placed.lengths[1]
    if length < total and not placed.slotted:
        return placed.keys[placed.keys >= total - length] - (total - length)
    if length != total:
        raise wanted(f"tensor {name}", where, f"{total} keys or slots", length)
    return placed.keys
