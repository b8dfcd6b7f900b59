"""Adapters: what they add times a wrong number: not at all, without alpha / r, on the embedding without sqrt(D)."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ref.emulate.context import Rule
from ref.emulate.one_pass import Table, as_held
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.numbers import recognised
from ref.hypotheses.products import PRODUCTS, layers_of, product_rule
from ref.measure.measure_logits import some_columns
from ref.measure.projection import spread_of
from ref.weights.adapted import Adapted

SURE = 4.0  # standard errors by which a number must differ from the right one
LEAST = 1e-3  # a multiple below that is none
ENDS = {"text.embed": "embedding", "text.logits": "head"}


def _weight(clue: Clue) -> Any:
    """Return the tap's own matrix, as the weights have it."""
    if clue.group in ENDS:
        text = clue.passes[0].one_pass.text  # whole: the clue's own may have some columns of the logits only
        return text.embedding if clue.group == "text.embed" else text.unembedding
    return getattr(layers_of(clue)[clue.layer], PRODUCTS[clue.group].field)


def _not_adapted(clue: Clue) -> str:
    return "" if isinstance(_weight(clue), Adapted) else "needs an adapter on this matrix, which the weights lack"


def _added(clue: Clue, weight: Adapted) -> np.ndarray:
    """Return what the adapter adds to the tap, in float64, in the tap's own shape."""
    factors = weight.factors
    if clue.group == "text.embed":
        ids = clue.there.one_pass.ids
        return factors.delta(ids.reshape(-1)).reshape(*ids.shape, -1) * math.sqrt(clue.config.width)
    source = "text.final_norm" if clue.group == "text.logits" else PRODUCTS[clue.group].source
    x = clue.input(source)
    x = x.reshape(*x.shape[:2], -1)
    rows = _columns(weight, clue.truth.shape[-1]) if clue.group == "text.logits" else slice(None)
    added = (x @ factors.a.T.astype(np.float64)) @ factors.b[rows].T.astype(np.float64) * factors.scale
    return added.reshape(clue.truth.shape)


def _columns(weight: Adapted, count: int) -> slice | np.ndarray:
    """Return which rows of a head logits are of: all, or those that stand for them."""
    vocabulary = weight.shape[0]
    return slice(None) if count == vocabulary else some_columns(vocabulary)


def _scaled(clue: Clue) -> Iterator[Hypothesis]:
    """Fit y = (x W^T) + c (what the adapter adds)."""
    weight = _weight(clue)
    y, t, added = (clue.by_token(x) for x in (clue.value, clue.truth, _added(clue, weight)))
    square = float(np.vdot(added, added))
    if square == 0:
        return
    c = 1 + float(np.vdot(y - t, added)) / square
    stderr = spread_of(y, t - added, t, c, square)
    if not np.isfinite(stderr) or abs(c - 1) <= SURE * stderr:
        return
    value, words = (0.0, "not applied") if abs(c) <= max(SURE * stderr, LEAST) else _known(clue, weight, c, stderr)
    said = f"{value:.6g}{f' ({words})' if words else ''}"
    what = "The adapter is not applied." if value == 0 else f"What the adapter adds is multiplied by {said}, not by 1."
    parameter = Parameter("multiple", value, None if words else stderr, 1.0, words)
    yield Hypothesis(mutant_of("adapter_scaled", what, {clue.group: _rule(clue, weight, value)}), (parameter,), 1)


def _known(clue: Clue, weight: Adapted, c: float, stderr: float) -> tuple[float, str]:
    """Return the number that a multiple is, with what gives it; itself and nothing where it is none that is known."""
    scale, rank = weight.factors.scale, len(weight.factors.a)
    known = {
        "alpha / r is left out": 1 / scale,
        "alpha / r is applied twice": scale,
        "alpha / sqrt(r) in the place of alpha / r": math.sqrt(rank),
        "alpha / r in the place of alpha / sqrt(r)": 1 / math.sqrt(rank),
        "added twice": 2.0,
        "subtracted": -1.0,
    }
    if clue.group == "text.embed":
        known["not multiplied by sqrt(D)"] = 1 / math.sqrt(clue.config.width)
    return recognised(c, stderr, known) or (c, "")


def _rule(clue: Clue, weight: Adapted, multiple: float) -> Rule:
    held = clue.there.one_pass.held if clue.group not in ENDS else clue.passes[0].one_pass.held
    rounded = partial(as_held, held=held)

    def table(columns: slice | np.ndarray) -> Table:
        rows = np.arange(weight.shape[0])[columns]
        return Table((len(rows), weight.shape[1]), lambda some: weight.held(rounded, rows[some], multiple))

    if clue.group == "text.embed":
        root = np.sqrt(np.float64(clue.config.width))
        return lambda at: at.ops.embed(at.one_pass.ids, table(slice(None)), root)
    if clue.group == "text.logits":
        return lambda at: at.ops.linear(at["text.final_norm"], table(_columns(weight, at.one_pass.head.shape[0])))
    return product_rule(clue, lambda: weight.held(rounded, multiple=multiple), np.zeros(weight.shape[0]))


ADAPTERS = (Family("adapter", frozenset({*PRODUCTS, *ENDS}), _scaled, _not_adapted),)
