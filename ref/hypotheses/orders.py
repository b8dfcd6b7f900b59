"""Orders: heads, channels, tokens, patches, images that stand in each other's places; with factors, too."""

from collections.abc import Iterator

import numpy as np

from ref.hypotheses.change import Change
from ref.hypotheses.factors import WEIGHTS, factors_of
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, after, mutant_of
from ref.hypotheses.lists import cut_off
from ref.hypotheses.permutations import order_of, pattern_of

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


def _along(clue: Clue, axis: int, letter: str) -> Iterator[Hypothesis]:
    """Look for an order along one axis."""
    y, t = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (clue.value, clue.truth))
    order = order_of(y, t)
    if order is None:
        return
    changes = (Change(letter, order=order),)
    name, order, words = _images(clue, order) if clue.tap == "model.merged" else (NAMES[letter], order, "")
    yield _hypothesis(clue, changes, name, order, words, letter)


def _images(clue: Clue, order: np.ndarray) -> tuple[str, np.ndarray, str]:
    """Tell whether what moved is whole images: then say which image holds which."""
    places = np.flatnonzero(clue.there.one_pass.places[0])
    moved = np.flatnonzero(order != np.arange(len(order)))
    pixels = clue.there.one_pass.pixels
    count = 0 if pixels is None else len(pixels)
    if count < 2 or len(places) % count or not set(moved.tolist()) <= set(places.tolist()):
        return NAMES["T"], order, ""
    blocks = places.reshape(count, -1)
    held = order[blocks]
    which = [
        int(np.flatnonzero((blocks == row).all(axis=1))[0]) if (blocks == row).all(axis=1).any() else -1 for row in held
    ]
    if -1 in which:
        return NAMES["T"], order, ""
    return NAMES["B"], np.array(which), ""


def _of_weights(clue: Clue) -> Iterator[Hypothesis]:
    """Look for an order of channels, of heads and of the channels in each; with factors or signs, too."""
    letter, heads = clue.axes[-1], clue.axes[-2] in ("N", "K")
    if letter not in WEIGHTS or (letter == "D" and clue.group in ("text.embed", "model.merged")):
        return
    width = clue.value.shape[-2] * clue.value.shape[-1] if heads else clue.value.shape[-1]
    y, t = (np.ascontiguousarray(x.reshape(-1, width).T) for x in (clue.value, clue.truth))
    if y.shape[1] < 2:
        return
    order = order_of(y, t, signs=True)
    if order is None:
        return
    changes = _split(clue, order) if heads else (Change(letter, order=order),)
    if not changes:
        return
    name = "channels_permuted" if changes[-1].axis != clue.axes[-2] else NAMES[changes[-1].axis]
    told = (
        changes[-1].order
        if len(changes) == 1 and changes[-1].order is not None and changes[-1].order.ndim == 1
        else order
    )
    yield _hypothesis(clue, changes, name, told, "", changes[-1].axis)
    yield from _with_factors(clue, changes, name, told)


def _split(clue: Clue, order: np.ndarray) -> tuple[Change, ...]:
    """Split an order of all heads' channels into one of heads and one of the channels in each."""
    count, size = clue.value.shape[-2:]
    source, within = order.reshape(count, size) // size, order.reshape(count, size) % size
    if not (source == source[:, :1]).all():
        return ()
    changes = []
    if (source[:, 0] != np.arange(count)).any():
        changes.append(Change(clue.axes[-2], order=source[:, 0]))
    if (within == within[:1]).all():
        within = within[0]
    if (within != np.arange(size)).any():
        changes.append(Change(clue.axes[-1], order=within))
    return tuple(changes)


def _with_factors(clue: Clue, changes, name: str, told: np.ndarray) -> Iterator[Hypothesis]:
    """Fit factors to values that are in order, on every second token."""
    moved = clue.truth
    for change in changes:
        moved = change.apply(moved, clue.axes)
    factor = factors_of(clue, clue.value, moved)
    if factor is None or len(clue.tokens()) < 8:
        return
    several = (*changes, Change(clue.axes[-1], factor=factor))
    yield _hypothesis(clue, several, name, told, "", changes[-1].axis, 100)


def _hypothesis(
    clue: Clue, changes, name: str, order: np.ndarray, words: str, letter: str, free: int = 2
) -> Hypothesis:
    moved = np.flatnonzero(order != np.arange(len(order)))
    words = words or pattern_of(order) or cut_off([f"{i} holds {order[i]}" for i in moved], 4)
    what = "images" if name == "images_permuted" else WORDS.get(letter, "channels")
    also = ", with a factor each" if free > 2 else ""
    axes = clue.axes

    def change_all(x):
        for change in changes:
            x = change.apply(x, axes) if change.fits(x.shape, axes) else x
        return x

    mutant = mutant_of(
        name, f"{what.capitalize()} stand in another order: {words}{also}.", after(clue.group, change_all)
    )
    basis = changes if all(one.axis in WEIGHTS for one in changes) else None
    parameters = (Parameter("order", [int(i) for i in order.ravel()], None, None, words),)
    return Hypothesis(mutant, parameters, free, basis)


def _orders(clue: Clue) -> Iterator[Hypothesis]:
    yield from _of_weights(clue)
    for axis, letter in enumerate(clue.axes):
        if letter not in NAMES or (clue.axes[-1] == "H" and letter in "NK"):
            continue
        if clue.value.shape[axis] > 1 and not (letter == "T" and clue.value.shape[axis] < 3):
            yield from _along(clue, axis, letter)


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


ORDERS = (
    Family("orders", None, _orders),
    Family("tokens late or early", None, _late, tokens=6),
)
