"""Signs and factors of channels, read off every second token, so that the others can contradict."""

from collections.abc import Iterator

import numpy as np

from ref.hypotheses.change import Change
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, after, mutant_of

WEIGHTS = "NKHFD"  # axes that weights have: an order of tokens or images is never undone by others


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
    axes_of_tap = clue.axes
    rules = after(clue.group, lambda x: x * change.shaped(x.shape, axes_of_tap))
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
    axes_of_tap = clue.axes
    rules = after(clue.group, lambda x: x * change.shaped(x.shape, axes_of_tap))
    words = f"from {np.min(factor):.4g} to {np.max(factor):.4g}"
    mutant = mutant_of("channel_factors", f"Each channel has a factor of its own, {words}.", rules)
    yield Hypothesis(mutant, (Parameter("factors", words, None, 1.0, words),), 100, (change,))


FACTORS = (
    Family("signs", None, _signs, tokens=2),
    Family("factors of channels", None, _factors, tokens=8),
)
