"""Orders and bases: heads, channels, tokens, patches, images that stand in each other's places; signs; factors."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, after, mutant_of

MOST = 4096  # places of an axis for which an order is looked for: the matrix of likenesses must fit
ALIKE, CHANGED = 0.6, 1.05  # how like its place a moved row must be; how much better than unmoved
WORDS = {
    "N": "heads",
    "K": "heads",
    "H": "channels of each head",
    "T": "tokens",
    "P": "patches",
    "M": "soft tokens",
    "B": "images",
}
NAMES = {
    "N": "heads_permuted",
    "K": "heads_permuted",
    "T": "tokens_permuted",
    "P": "patches_permuted",
    "M": "tokens_permuted",
    "B": "images_permuted",
}


WEIGHTS = "NKHFD"  # axes that weights have: an order of tokens or images is never undone by others


class Change(NamedTuple):
    """Values in another basis: along one axis in another order, with other signs or factors."""

    axis: str  # a letter of the registry's axes
    order: np.ndarray | None = None  # y[.., i] = t[.., order[i]]
    factor: np.ndarray | None = None  # y = t * factor; [H], or [K, H] where it differs between heads

    def undo(self, x: np.ndarray, axes: list[str]) -> np.ndarray:
        """Bring a value out of the basis."""
        if self.order is not None:
            return np.take(x, np.argsort(self.order), axis=axes.index(self.axis))
        return x / self.shaped(x.shape, axes)

    def shaped(self, shape: tuple[int, ...], axes: list[str]) -> np.ndarray:
        """Return the factors as they lie along a value's axes; those of key heads repeated for their query heads."""
        assert self.factor is not None
        at, factor = axes.index(self.axis), self.factor
        if factor.ndim == 1:
            return factor.reshape([-1 if i == at else 1 for i in range(len(shape))])
        heads = axes.index("K") if "K" in axes else axes.index("N")
        factor = np.repeat(factor, shape[heads] // len(factor), axis=0)
        return factor.reshape(
            [factor.shape[0] if i == heads else factor.shape[1] if i == at else 1 for i in range(len(shape))]
        )

    def fits(self, shape: tuple[int, ...], axes: list[str]) -> bool:
        """Tell whether a value has the axis, and as many places on it."""
        if self.axis not in axes:
            return False
        size = shape[axes.index(self.axis)]
        if self.order is not None:
            return size == len(self.order)
        assert self.factor is not None
        heads = shape[axes.index("K" if "K" in axes else "N")] if {"K", "N"} & set(axes) else 0
        return size == self.factor.shape[-1] and (
            self.factor.ndim == 1 or (heads > 0 and heads % len(self.factor) == 0)
        )

    def for_queries(self, shape: tuple[int, ...], axes: list[str]) -> "Change | None":
        """Return the order of query heads that an order of key heads makes; None where there is none."""
        if self.order is None or self.axis != "K" or "N" not in axes:
            return None
        group = shape[axes.index("N")] // len(self.order)
        return Change("N", np.concatenate([i * group + np.arange(group) for i in self.order]))

    def same(self, other: "Change") -> bool:
        """Tell whether two changes are the same."""
        mine, theirs = (one.order if one.order is not None else one.factor for one in (self, other))
        alike = (self.order is None) == (other.order is None) and self.axis == other.axis
        return alike and mine is not None and theirs is not None and np.array_equal(mine, theirs)


def order_of(y: np.ndarray, t: np.ndarray, axis: int) -> np.ndarray | None:
    """Return the order in which places of an axis stand: y[i] = t[order[i]]; None where there is none, or its own.

    Args:
        y: the dump's.
        t: the truth.
        axis: along which.
    """
    size = y.shape[axis]
    if not 1 < size <= MOST:
        return None
    a, b = (np.moveaxis(x, axis, 0).reshape(size, -1) for x in (y, t))
    some = slice(None, None, max(1, a.shape[1] // 4096))
    a, b = (x[:, some] / (np.linalg.norm(x[:, some], axis=1, keepdims=True) + np.float64(1e-300)) for x in (a, b))
    alike = a @ b.T
    order = alike.argmax(axis=1)
    own = np.arange(size)
    order = np.where(alike[own, own] >= alike[own, order] - 1e-9, own, order)
    if len(set(order.tolist())) != size or (order == own).all():
        return None
    moved = order != own
    return order if np.mean(alike[own, order][moved]) > ALIKE else None


def _permuted(clue: Clue, axis: int, letter: str) -> Iterator[Hypothesis]:
    order = order_of(clue.value, clue.truth, axis)
    if order is None:
        return
    moved = np.flatnonzero(order != np.arange(len(order)))
    words = pattern_of(order) or ", ".join(f"{i} holds {order[i]}" for i in moved[:4]) + (
        ", ..." if len(moved) > 4 else ""
    )
    name = NAMES.get(letter, "channels_permuted")
    what = f"{WORDS.get(letter, 'channels').capitalize()} stand in another order: {words}."
    change = Change(letter, order=order) if letter in WEIGHTS else None
    rules = after(clue.group, lambda x: np.take(x, order, axis=axis) if x.shape[axis] == len(order) else x)
    parameters = (Parameter("order", [int(i) for i in order], None, None, words),)
    yield Hypothesis(mutant_of(name, what, rules), parameters, 2, change)


def pattern_of(order: np.ndarray) -> str:
    """Say what an order is, where it is a usual one; empty where it is not."""
    size, own = len(order), np.arange(len(order))
    if np.array_equal(order, own[::-1]):
        return "reversed"
    if size % 2 == 0 and np.array_equal(order, own.reshape(2, -1).T.ravel()):
        return "pairs interleaved: j, j + half, j + 1, ..."
    if size % 2 == 0 and np.array_equal(order, own.reshape(-1, 2).T.ravel()):
        return "pairs taken apart: even ones, then odd ones"
    for rows in range(2, size):
        if size % rows == 0 and np.array_equal(order, own.reshape(rows, -1).T.ravel()):
            return f"{rows} x {size // rows} transposed"
    for by in range(1, size):
        if np.array_equal(order, np.roll(own, by)):
            return f"rolled by {by}" if by <= size // 2 else f"rolled by -{size - by}"
    return ""


def _orders(clue: Clue) -> Iterator[Hypothesis]:
    for axis, letter in enumerate(clue.axes):
        if letter in "YXCSV" or (letter == "T" and clue.there.one_pass.cached and clue.value.shape[axis] < 3):
            continue
        yield from _permuted(clue, axis, letter)


def _late(clue: Clue) -> Iterator[Hypothesis]:
    """Look for tokens that stand some places late or early; those without a source are taken as they are."""
    if clue.axes[1] != "T" or clue.value.shape[1] < 6:
        return
    y, t = clue.value, clue.truth
    for by in (1, -1, 2, -2, 3, -3):
        here = slice(by, None) if by > 0 else slice(None, by)
        there = slice(None, -by) if by > 0 else slice(-by, None)
        if np.linalg.norm(y[:, here] - t[:, there]) > 0.1 * np.linalg.norm(y[:, here]):
            continue
        rest = y[:, :by].copy() if by > 0 else y[:, by:].copy()

        def change(x, by=by, rest=rest):
            moved = np.roll(x, by, axis=1)
            if by > 0:
                moved[:, :by] = rest
            else:
                moved[:, by:] = rest
            return moved

        words = f"{abs(by)} place{'s' * (abs(by) > 1)} {'late' if by > 0 else 'early'}"
        rules = after(clue.group, change)
        yield Hypothesis(
            mutant_of("tokens_shifted", f"Tokens stand {words}.", rules), (Parameter("n", by, None, 0),), 3
        )


def _signs(clue: Clue) -> Iterator[Hypothesis]:
    axis = clue.value.ndim - 1
    letter = clue.axes[-1]
    if letter in ("S", "X") or len(clue.tokens()) < 2:
        return
    # read off every second token, so that the others can contradict
    y, t = (_some(clue, x) for x in (clue.value, clue.truth))
    axes = tuple(range(y.ndim - 1)) if clue.axes[-2] not in ("N", "K") else tuple(range(y.ndim - 2))
    signs = np.where(np.sum(y * t, axis=axes) < 0, -1.0, 1.0)
    count = int((signs < 0).sum())
    if not count:
        return
    whole = count == signs.size
    which = "all" if whole else f"{count} of {signs.size} channels"
    change = Change(letter, factor=signs)
    rules = after(clue.group, lambda x: x * change.shaped(x.shape, clue.axes))
    value = "all" if whole else [int(i) for i in np.flatnonzero(signs.ravel() < 0)]
    del axis
    yield Hypothesis(
        mutant_of("signs_reversed", f"The sign of {which} is reversed.", rules),
        (Parameter("channels", value, None, None, which),),
        1 if whole else 3,
        change,
    )


def _some(clue: Clue, x: np.ndarray) -> np.ndarray:
    tokens = clue.tokens()
    flat = x.reshape(1, -1, *x.shape[2:]) if x.shape[0] > 1 and x.shape[1] * x.shape[0] == len(clue.valid) else x
    return np.take(flat, tokens[::2], axis=1)


def _factors(clue: Clue) -> Iterator[Hypothesis]:
    """Fit a factor for each channel on every second token; the others must have it, too."""
    letter = clue.axes[-1]
    if letter in ("S", "X", "V") or clue.axes[1] == "N":
        return
    y, t = (_some(clue, x) for x in (clue.value, clue.truth))
    heads = clue.axes[-2] in ("N", "K")
    axes = tuple(range(y.ndim - 2)) if heads else tuple(range(y.ndim - 1))
    square = np.sum(t * t, axis=axes)
    if not (square > 0).all():
        return
    factor = np.sum(y * t, axis=axes) / square
    if heads and np.allclose(factor, factor[:1], rtol=1e-3):
        factor = factor.mean(axis=0)
    if np.allclose(factor, factor.ravel()[0], rtol=1e-3) or not np.isfinite(factor).all() or (factor == 0).any():
        return
    change = Change(letter, factor=factor)
    rules = after(clue.group, lambda x: x * change.shaped(x.shape, clue.axes))
    low, high = np.min(factor), np.max(factor)
    words = f"from {low:.4g} to {high:.4g}"
    mutant = mutant_of("channel_factors", f"Each channel has a factor of its own, {words}.", rules)
    yield Hypothesis(mutant, (Parameter("factors", words, None, 1.0, words),), 100, change)


ORDERS = (
    Family("orders", None, _orders),
    Family("tokens late or early", None, _late),
    Family("signs", None, _signs, lambda clue: "" if len(clue.tokens()) >= 2 else "needs two tokens"),
    Family("factors of channels", None, _factors, lambda clue: "" if len(clue.tokens()) >= 8 else "needs eight tokens"),
)
