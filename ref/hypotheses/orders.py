"""Orders and bases: heads, channels, tokens, patches, images that stand in each other's places; signs; factors."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.arithmetic import TRUTH
from ref.emulate.graph import RULES, Run
from ref.emulate.one_pass import Unknown
from ref.hypotheses.change import Change
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, after, mutant_of
from ref.measure.pass_runs import PassRuns

MOST = 4096  # places of an axis for which an order is looked for: the matrix of likenesses must fit
ALIKE = 0.6  # how like its place a moved row must be
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
TIED = 1e-6  # of two rows that are as like


def order_of(y: np.ndarray, t: np.ndarray, signs: bool = False) -> np.ndarray | None:
    """Return the order in which rows stand: y[i] = t[order[i]]; None where there is none, or its own.

    Args:
        y: [rows, values] the dump's.
        t: [rows, values] the truth.
        signs: whether rows may also be reversed in sign.
    """
    size = len(y)
    if not 1 < size <= MOST:
        return None
    some = slice(None, None, max(1, y.shape[1] // 4096))
    a, b = (x[:, some] / (np.linalg.norm(x[:, some], axis=1, keepdims=True) + np.float64(1e-300)) for x in (y, t))
    alike = a @ b.T
    alike = np.abs(alike) if signs else alike
    own, best = np.arange(size), alike.max(axis=1)
    order = np.where(alike[own, own] >= best - TIED, own, -1)
    free = np.ones(size, bool)
    free[order[order >= 0]] = False
    for i in np.flatnonzero(order < 0):  # of equal rows the first that is free
        near = np.flatnonzero(free & (alike[i] >= best[i] - TIED))
        if not len(near):
            return None
        after_last = order[i - 1] + 1 if i else 0
        order[i] = after_last if after_last in near else near[0]
        free[order[i]] = False
    moved = order != own
    return order if moved.any() and np.mean(alike[own, order][moved]) > ALIKE else None


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
    listed = ", ".join(f"{i} holds {order[i]}" for i in moved[:4]) + (", ..." if len(moved) > 4 else "")
    words = words or pattern_of(order) or listed
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


def factors_of(clue: Clue, value: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """Fit a factor for each channel on every second token: [H], or [K, H]; None where they are all 1, or not known."""
    y, t = (_some(clue, x) for x in (value, truth))
    heads = clue.axes[-2] in ("N", "K")
    axes = tuple(range(y.ndim - 2)) if heads else tuple(range(y.ndim - 1))
    square = np.sum(t * t, axis=axes)
    factor = np.where(square > 0, np.sum(y * t, axis=axes) / np.where(square > 0, square, 1), 1.0)
    if heads and np.allclose(factor, factor[:1], rtol=1e-3):
        factor = factor.mean(axis=0)
    if np.allclose(factor, factor.ravel()[0], rtol=1e-3) or not np.isfinite(factor).all() or (factor == 0).any():
        return None
    return factor


def _signs(clue: Clue) -> Iterator[Hypothesis]:
    letter = clue.axes[-1]
    if letter in ("S", "X"):
        return
    y, t = (_some(clue, x) for x in (clue.value, clue.truth))  # the other tokens can contradict
    heads = clue.axes[-2] in ("N", "K")
    axes = tuple(range(y.ndim - 2)) if heads else tuple(range(y.ndim - 1))
    signs = np.where(np.sum(y * t, axis=axes) < 0, -1.0, 1.0)
    count = int((signs < 0).sum())
    if not count:
        return
    whole = count == signs.size
    which = "all values" if whole else f"{count} of {signs.size} channels"
    change = Change(letter, factor=signs)
    rules = after(clue.group, lambda x: x * change.shaped(x.shape, clue.axes))
    value = "all" if whole else [int(i) for i in np.flatnonzero(signs.ravel() < 0)]
    mutant = mutant_of("signs_reversed", f"The sign of {which} is reversed.", rules)
    parameters = (Parameter("channels", value, None, None, which),)
    yield Hypothesis(mutant, parameters, 1 if whole else 3, (change,) if letter in WEIGHTS else None)


def _some(clue: Clue, x: np.ndarray) -> np.ndarray:
    tokens = clue.tokens()
    flat = x.reshape(1, -1, *x.shape[2:]) if x.shape[0] > 1 and x.shape[1] * x.shape[0] == len(clue.valid) else x
    return np.take(flat, tokens[::2], axis=1)


def _factors(clue: Clue) -> Iterator[Hypothesis]:
    """Fit a factor for each channel on every second token; the others must have it, too."""
    letter = clue.axes[-1]
    if letter not in WEIGHTS:
        return
    factor = factors_of(clue, clue.value, clue.truth)
    if factor is None:
        return
    change = Change(letter, factor=factor)
    rules = after(clue.group, lambda x: x * change.shaped(x.shape, clue.axes))
    words = f"from {np.min(factor):.4g} to {np.max(factor):.4g}"
    mutant = mutant_of("channel_factors", f"Each channel has a factor of its own, {words}.", rules)
    yield Hypothesis(mutant, (Parameter("factors", words, None, 1.0, words),), 100, (change,))


def _rows(clue: Clue) -> Iterator[Hypothesis]:
    """Look for values of another row of the batch: each row is a pass of its own."""
    rows = [one for one in clue.passes if one.before is None and clue.tap in one.stored]
    if len(rows) < 2 or clue.there.before is not None:
        return
    parts = [_part_of(one, clue) for one in rows]
    made = [None if truth is None else truth for _, truth in parts]
    held = []
    for value, _ in parts:
        fits = (t is not None and t.shape == value.shape for t in made)
        left = [float(np.linalg.norm(value - t)) if fit else np.inf for t, fit in zip(made, fits, strict=True)]
        best = left.index(min(left))
        held.append(best if left[best] < 0.1 * np.linalg.norm(value) else -1)
    here = next(i for i, one in enumerate(rows) if one.number == clue.there.number)
    if held[here] in (-1, here):
        return
    foreign, places = made[held[here]], clue.there.one_pass.places[0]

    def rule(at):
        value = np.array(RULES[clue.group](at))
        if at.tap == "model.merged" and at.one_pass.places[0].shape == places.shape:
            value[0, places] = foreign
        return value if at.tap == "model.merged" or value.shape != foreign.shape else foreign.astype(value.dtype)

    words = ", ".join(f"row {i} has those of row {j}" for i, j in enumerate(held) if i != j)
    values = "Images" if clue.tap.startswith(("vision.", "model.")) else "Values"
    what = f"{values} of rows of the batch are exchanged: {words}."
    yield Hypothesis(
        mutant_of("rows_permuted", what, {clue.group: rule}), (Parameter("order", held, None, None, words),), 2
    )


def _part_of(one: PassRuns, clue: Clue) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a row's value and its truth on the dump's own inputs; of merged rows the images only."""
    run = Run(one.one_pass, TRUTH, one.local.given)
    run.prefix, run.weights = clue.there.local.prefix, clue.there.local.weights
    value = one.load(clue.tap).astype(np.float64)
    try:
        truth, _ = run.recompute(clue.tap)
    except Unknown:
        truth = None
    if clue.tap == "model.merged":
        places = one.one_pass.places[0]
        return value[0, places], None if truth is None else truth[0, places]
    return value, truth


ORDERS = (
    Family("orders", None, _orders),
    Family("tokens late or early", None, _late),
    Family("rows of the batch", frozenset({"vision.soft_tokens", "model.merged", "text.embed"}), _rows),
    Family("signs", None, _signs, lambda clue: "" if len(clue.tokens()) >= 2 else "needs two tokens"),
    Family("factors of channels", None, _factors, lambda clue: "" if len(clue.tokens()) >= 8 else "needs eight tokens"),
)
