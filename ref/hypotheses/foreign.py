"""Weights of another tensor: of another layer, of another role, transposed; and a norm's gain of another norm."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ref.emulate.context import Rule
from ref.emulate.text_rules import NORMS, norm_eps, norm_input
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.norms import without_gain
from ref.hypotheses.products import PRODUCTS, bias_of, held_values, layers_of, product_rule, screen_of, values_of
from ref.weights.adapted import Adapted

NEAR, HALF = 0.5, 0.7  # share of a tap that may be left with the right weights; of what the second best leaves


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


def _at_an_end(clue: Clue) -> Iterator[Hypothesis]:
    yield TIED_HEAD if clue.tap == "text.logits" else TIED_EMBEDDING


def _of_end(group: str, tensor: str, own: str, rule: Rule) -> Hypothesis:
    mutant = mutant_of("weights_of_tensor", f"The {own} has the weights of the {tensor}, not its own.", {group: rule})
    return Hypothesis(mutant, (Parameter("tensor", tensor, None, own),), 1)


TIED_HEAD = _of_end(
    "text.logits", "embedding", "head", lambda at: at.ops.linear(at["text.final_norm"], at.one_pass.table)
)
TIED_EMBEDDING = _of_end(
    "text.embed",
    "head",
    "embedding",
    lambda at: at.ops.embed(at.one_pass.ids, at.one_pass.head, np.sqrt(np.float64(at.config.width))),
)


def _gains(clue: Clue) -> Iterator[Hypothesis]:
    """Read the gain off the values and look for it among all gains of its length."""
    field = NORMS[clue.group][1]
    own = np.asarray(getattr(clue.there.local.weights, field), np.float64)
    t, y = (clue.by_token(x).reshape(-1, len(own)) for x in (clue.truth, clue.value))
    normed = without_gain(t, 1 + own)
    square = np.sum(normed * normed, axis=0)
    some = square > 0  # of a gain of 0 nothing can be read
    if not some.any():
        return
    read = np.sum(y * normed, axis=0)[some] / square[some] - 1
    size = np.linalg.norm(1 + read)
    found = [
        (float(np.linalg.norm(gain[some] - read) / size), number, name, gain)
        for number, name, gain in _other_gains(clue, field, own.shape)
    ]
    left, number, name, gain = min(found, key=lambda row: row[0], default=(1.0, -1, "", own))
    if left <= NEAR / 2:
        yield _of_gain(clue, field, number, name, gain)


def _other_gains(clue: Clue, field: str, shape: tuple[int, ...]) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield layer, field and values of each gain of a length but the tap's own; layer -1 of the final norm's."""
    layers = layers_of(clue) if clue.layer >= 0 else ()
    for number in range(len(layers)):
        for name in layers[number]._fields:
            weight = getattr(layers[number], name)
            if weight.shape == shape and (number, name) != (clue.layer, field):
                yield number, name, values_of(clue, weight)
    final = clue.there.one_pass.text.final_norm
    if final.shape == shape and clue.tap != "text.final_norm":
        yield -1, "final_norm", values_of(clue, final)


def _of_gain(clue: Clue, field: str, number: int, name: str, gain: np.ndarray) -> Hypothesis:
    rule = {clue.group: lambda at: at.ops.rms_norm(norm_input(at), gain.astype(at.ops.dtype), norm_eps(at))}
    if name == field:
        mutant = mutant_of("weights_of_layer", f"{field} has the gain of layer {number}, not its own.", rule)
        return Hypothesis(mutant, (Parameter("layer", number, None, clue.layer),), 1)
    tensor = f"layer.{number}.{name}" if number >= 0 else name
    mutant = mutant_of("weights_of_tensor", f"{field} has the gain of {tensor}.", rule)
    return Hypothesis(mutant, (Parameter("tensor", tensor, None, f"layer.{clue.layer}.{field}"),), 1)


def _no_other_weight(clue: Clue) -> str:
    own, layers = getattr(layers_of(clue)[clue.layer], PRODUCTS[clue.group].field), layers_of(clue)
    if own.shape[0] == own.shape[1] or len(layers) > 1 or len(_alike(layers[0], own.shape)) > 1:
        return ""
    return "needs another tensor of this shape, which the weights lack"


def _tied(clue: Clue) -> str:
    text = clue.passes[0].one_pass.text
    if text.head is None:
        return "needs a head that is not the embedding, which the weights lack"
    own, other = (text.head, text.embedding) if clue.tap == "text.logits" else (text.embedding, text.head)
    same = isinstance(own, Adapted) and own.base is other  # without the adapter it is the other: that is said so
    return "needs embedding and head that more than an adapter makes two" if same else ""


def _no_other_gain(clue: Clue) -> str:
    if clue.layer < 0:
        return ""
    layers, own = layers_of(clue), getattr(clue.there.local.weights, NORMS[clue.group][1])
    others = {name for name in layers[0]._fields if getattr(layers[0], name).shape == own.shape}
    there = len(layers) > 1 or len(others) > 1 or clue.there.one_pass.text.final_norm.shape == own.shape
    return "" if there else "needs another gain of this length, which the weights lack"


FOREIGN = (
    Family("weights of another tensor", frozenset(PRODUCTS), _foreign, _no_other_weight),
    Family("weights of another tensor", frozenset({"text.embed", "text.logits"}), _at_an_end, _tied),
    Family("gains of another norm", frozenset(NORMS), _gains, _no_other_gain),
)
