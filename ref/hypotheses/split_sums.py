"""Sums that lack a part of their input, or take its heads in another order."""

import itertools
from collections.abc import Iterator

import numpy as np

from ref.emulate.context import join_heads
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.products import PRODUCTS, Made, bias_of, layers_of, own_product, screen_of, values_of

PARTS, CLEAR = 64, 0.1  # into which a sum is cut; how near 0 or 1 a part's share must be


def _split_sum(clue: Clue) -> Iterator[Hypothesis]:
    """Find which parts of the input a sum lacks, has twice, or multiplies with another part's weights.

    With the input in parts, y = sum over m, n of a[m, n] W_m x_n; a is the unit matrix.
    """
    made = PRODUCTS[clue.group]
    x = clue.input(made.source)
    heads = x.shape[2] if x.ndim == 4 else 0
    flat, y = (z.reshape(len(clue.valid), -1)[clue.valid] for z in (x, clue.value))
    screen = screen_of(clue)
    layer = layers_of(clue)[clue.layer]
    weight = values_of(clue, getattr(layer, made.field), screen.rows)
    bias = bias_of(clue, layer, made.field)
    y = y[:, screen.rows] - bias[screen.rows]
    some = np.unique(np.linspace(0, len(flat) - 1, min(len(flat), 32)).astype(int))
    x, y = flat[some], y[some]
    width = x.shape[1]
    cuts = np.unique(np.linspace(0, width, min(heads or PARTS, width) + 1).astype(int))
    a = _shares(x, y, weight, cuts)
    if a is None:
        return
    each = np.repeat(a, np.diff(cuts))
    broken = np.flatnonzero((np.abs(a) > CLEAR) & (np.abs(a - 1) > CLEAR))
    if not heads and len(broken) <= 2:  # a part that begins or ends inside: its channels one by one
        fine = np.unique(np.concatenate([cuts, *(np.arange(cuts[i], cuts[i + 1] + 1) for i in broken)]))
        again = _shares(x, y, weight, fine)
        each = each if again is None else np.repeat(again, np.diff(fine))
    lost, kept = np.abs(each) < CLEAR, np.abs(each - 1) < CLEAR
    if lost.any() and (lost | kept).all() and not lost.all():
        yield _missing_parts(clue, made, lost, heads)
    elif heads:
        yield from _heads_of_input(clue, made, x, y, weight, heads)


def _shares(x: np.ndarray, y: np.ndarray, weight: np.ndarray, cuts: np.ndarray) -> np.ndarray | None:
    """Return how often each part of the input is in the sum, by least squares; None of too few values."""
    if len(cuts) < 3 or y.size < 3 * len(cuts):
        return None
    parts = [(x[:, i:j] @ weight[:, i:j].T).ravel() for i, j in itertools.pairwise(cuts)]
    a, *_ = np.linalg.lstsq(np.stack(parts, axis=1), y.ravel(), rcond=None)
    return a


def _missing_parts(clue: Clue, made: Made, lost: np.ndarray, heads: int) -> Hypothesis:
    kept = (~lost).astype(np.float64)
    places = np.flatnonzero(lost)
    whole = len(places) == places[-1] - places[0] + 1
    words = f"{places[0]}..{places[-1]}" if whole else f"{len(places)} of {len(lost)}, from {places[0]} on"

    def rule(at):
        return own_product(at, join_heads(at[made.source]) * kept.astype(at.ops.dtype))

    kind = "whole heads" if heads else "a shard or chunk"
    what = f"The sum over the inputs of {made.field} lacks channels {words}: {kind}."
    parameters = (
        Parameter("axis", "input"),
        Parameter("start", int(places[0])),
        Parameter("stop", int(places[-1]) + 1),
    )
    return Hypothesis(mutant_of("part_missing", what, {clue.group: rule}), parameters, 2)


def _heads_of_input(clue: Clue, made: Made, x, y, weight, heads: int) -> Iterator[Hypothesis]:
    if heads > 32:
        return
    size = x.shape[1] // heads
    cut = lambda z, p: z[:, p * size : (p + 1) * size]  # noqa: E731
    pairs = np.stack([cut(x, n) @ cut(weight, m).T for m in range(heads) for n in range(heads)])
    if pairs[0].size < 2 * heads * heads:
        return
    a, *_ = np.linalg.lstsq(pairs.reshape(heads * heads, -1).T, y.ravel(), rcond=None)
    a = a.reshape(heads, heads)
    order = a.argmax(axis=1)
    if (
        len(set(order.tolist())) != heads
        or (order == np.arange(heads)).all()
        or np.abs(a[np.arange(heads), order] - 1).max() > 0.2
    ):
        return

    def rule(at):
        return own_product(at, np.take(at[made.source], order, axis=2))

    words = ", ".join(f"{m} takes {order[m]}" for m in np.flatnonzero(order != np.arange(heads))[:6])
    mutant = mutant_of(
        "heads_permuted", f"{made.field} is given its heads in another order: {words}.", {clue.group: rule}
    )
    yield Hypothesis(mutant, (Parameter("order", [int(i) for i in order], None, None, words),), 2)


def _few_values(clue: Clue) -> str:
    few = clue.by_token(clue.value).size
    return "" if few >= 3 * 2 else f"needs at least 6 values, got {few}"


SPLIT_SUMS = (Family("parts of a sum", frozenset(PRODUCTS), _split_sum, _few_values, tokens=2),)
