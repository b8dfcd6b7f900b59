"""Weights of another tensor: of another layer, of another role, transposed; and a norm's gain of another norm."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ref.emulate.context import join_heads
from ref.emulate.text_rules import NORMS, norm_eps, norm_input
from ref.emulate.tower_rules import VISION_NORMS
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.norms import without_gain
from ref.hypotheses.products import (
    GAINS,
    PRODUCTS,
    bias_of,
    held_values,
    layers_of,
    own_product,
    product_rule,
    screen_of,
    values_of,
)

NEAR, HALF = 0.5, 0.7  # share of a tap that may be left with the right weights; of what the second best leaves
PARTS, CLEAR = 64, 0.1  # into which a sum is cut; how near 0 or 1 a part's share must be


def _foreign(clue: Clue) -> Iterator[Hypothesis]:
    """Try every tensor of the same shape in every layer on a few tokens and outputs; run the best."""
    made, screen, layers = PRODUCTS[clue.group], screen_of(clue), layers_of(clue)
    own = getattr(layers[clue.layer], made.field)
    lefts: list[tuple[float, int, str, bool, bool]] = []
    own_bias = bias_of(clue, layers[clue.layer], made.field)
    for number in range(len(layers)):
        one = layers[number]
        for field in _alike(one, own.shape):
            if (number, field) == (clue.layer, made.field):
                continue
            weight = values_of(clue, getattr(one, field), screen.rows)
            biases = [(own_bias, True)]
            if made.field + "_bias" in one._fields:  # the text has none
                biases.append((bias_of(clue, one, field), False))
            for bias, whose in biases:
                lefts.append((screen.left(weight, bias[screen.rows]), number, field, False, whose))
    if own.shape[0] == own.shape[1]:
        left = screen.left(values_of(clue, own).T[screen.rows], own_bias[screen.rows])
        lefts.append((left, clue.layer, made.field, True, True))
    lefts.sort()
    if not lefts or lefts[0][0] > NEAR:
        return
    others = [one[0] for one in lefts if one[1:3] != lefts[0][1:3]]
    if others and lefts[0][0] > 0.05 and lefts[0][0] > HALF * others[0]:
        return
    yield from _named(clue, *lefts[0][1:])


def _alike(layer: Any, shape: tuple[int, ...]) -> list[str]:
    return [field for field in layer._fields if tuple(getattr(layer, field).shape) == tuple(shape) and len(shape) == 2]


def _named(clue: Clue, number: int, field: str, transposed: bool, own_bias: bool) -> Iterator[Hypothesis]:
    made, layers = PRODUCTS[clue.group], layers_of(clue)
    bias = bias_of(clue, layers[clue.layer], made.field) if own_bias else bias_of(clue, layers[number], field)
    weight = partial(_weight, layers, number, field, clue.there.one_pass.held, transposed)
    rule = product_rule(clue, weight, bias)
    if transposed:
        mutant = mutant_of("weights_transposed", f"The weight {made.field} is used transposed.", {clue.group: rule})
        yield Hypothesis(mutant, (), 0)
    elif field == made.field:
        what = f"{made.field} has the weights of layer {number}, not those of its own."
        mutant = mutant_of("weights_of_layer", what, {clue.group: rule})
        yield Hypothesis(mutant, (Parameter("layer", number, None, clue.layer),), 1)
    else:
        what = f"{made.field} has the weights of {field} of layer {number}."
        mutant = mutant_of("weights_of_tensor", what, {clue.group: rule})
        yield Hypothesis(
            mutant, (Parameter("tensor", f"layer.{number}.{field}", None, f"layer.{clue.layer}.{made.field}"),), 1
        )


def _weight(layers: Any, number: int, field: str, held: str, transposed: bool) -> np.ndarray:
    return held_values(layers[number], field, held, transposed)


def _gains(clue: Clue) -> Iterator[Hypothesis]:
    """Read the gain off the values and look for it among all gains of its length."""
    if clue.tap in ("vision.post_norm", "vision.soft_norm", "text.final_norm"):
        layers, plus = (), 1.0
    else:
        layers, plus = layers_of(clue), 0.0 if clue.group in VISION_NORMS else 1.0
    field = GAINS[clue.group]
    own = np.asarray(getattr(clue.there.local.weights, field), np.float64)
    t, y = (clue.by_token(x).reshape(-1, len(own)) for x in (clue.truth, clue.value))
    normed = without_gain(t, plus + own)
    square = np.sum(normed * normed, axis=0)
    some = square > 0  # of a gain of 0 nothing can be read
    if not some.any() or clue.group in VISION_NORMS:
        return
    read = np.sum(y * normed, axis=0)[some] / square[some] - plus

    def away(gain: np.ndarray) -> float:
        return float(np.linalg.norm(gain[some] - read) / np.linalg.norm(plus + read))

    found = []
    for number in range(len(layers)):
        for name in layers[number]._fields:
            weight = getattr(layers[number], name)
            if weight.shape == own.shape and (number, name) != (clue.layer, field):
                gain = values_of(clue, weight)
                found.append((away(gain), number, name, gain))
    final = clue.there.one_pass.text.final_norm
    if final.shape == own.shape and clue.tap != "text.final_norm":
        gain = values_of(clue, final)
        found.append((away(gain), -1, "final_norm", gain))
    if not found:
        return
    left, number, name, gain = min(found, key=lambda row: row[0])
    if left > NEAR / 2:
        return
    rule = {clue.group: lambda at: at.ops.rms_norm(norm_input(at), gain.astype(at.ops.dtype), norm_eps(at))}
    if name == field:
        mutant = mutant_of("weights_of_layer", f"{field} has the gain of layer {number}, not its own.", rule)
        yield Hypothesis(mutant, (Parameter("layer", number, None, clue.layer),), 1)
    else:
        tensor = f"layer.{number}.{name}" if number >= 0 else name
        mutant = mutant_of("weights_of_tensor", f"{field} has the gain of {tensor}.", rule)
        yield Hypothesis(mutant, (Parameter("tensor", tensor, None, f"layer.{clue.layer}.{field}"),), 1)


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


def _missing_parts(clue: Clue, made, lost: np.ndarray, heads: int) -> Hypothesis:
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


def _heads_of_input(clue: Clue, made, x, y, weight, heads: int) -> Iterator[Hypothesis]:
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


def _no_other_weight(clue: Clue) -> str:
    own, layers = getattr(layers_of(clue)[clue.layer], PRODUCTS[clue.group].field), layers_of(clue)
    if own.shape[0] == own.shape[1] or len(layers) > 1 or len(_alike(layers[0], own.shape)) > 1:
        return ""
    return "needs another tensor of this shape, which the weights lack"


def _no_other_gain(clue: Clue) -> str:
    if clue.layer < 0:
        return ""
    layers, own = layers_of(clue), getattr(clue.there.local.weights, GAINS[clue.group])
    others = {name for name in layers[0]._fields if getattr(layers[0], name).shape == own.shape}
    there = len(layers) > 1 or len(others) > 1 or clue.there.one_pass.text.final_norm.shape == own.shape
    return "" if there else "needs another gain of this length, which the weights lack"


def _few_values(clue: Clue) -> str:
    few = clue.by_token(clue.value).size
    return "" if few >= 3 * 2 else f"needs at least 6 values, got {few}"


FOREIGN = (
    Family("weights of another tensor", frozenset(PRODUCTS), _foreign, _no_other_weight),
    Family("gains of another norm", frozenset(NORMS), _gains, _no_other_gain),
    Family("parts of a sum", frozenset(PRODUCTS), _split_sum, _few_values, tokens=2),
)
