"""Which weights a tap is made with, and from which input: the table that hypotheses about weights go by."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ref.emulate.context import Context, Rule, join_heads, split_heads
from ref.emulate.graph import RULES
from ref.emulate.one_pass import as_held, rows_as_held
from ref.emulate.text_rules import LAYER
from ref.emulate.tower_rules import TOWER
from ref.hypotheses.hypothesis import Clue
from ref.model.taps import row_of, tap_group

ROWS, TOKENS = 96, 24  # of a weight and of a pass that a screening takes


class Made(NamedTuple):
    """How a product is made."""

    source: str  # the input's tap
    field: str  # of the layer's parameters


_MADE = {
    "attn.q": Made("attn.pre_norm", "q"),
    "attn.k": Made("attn.pre_norm", "k"),
    "attn.v": Made("attn.pre_norm", "v"),
    "attn.out": Made("attn.mix", "attn_out"),
    "ffn.gate": Made("ffn.pre_norm", "gate"),  # the tower has none
    "ffn.up": Made("ffn.pre_norm", "up"),
    "ffn.out": Made("ffn.act", "down"),
}
PRODUCTS: dict[str, Made] = {
    part + name: made for part in (LAYER, TOWER) for name, made in _MADE.items() if part + name in RULES
}


def layers_of(clue: Clue) -> Any:
    """Return all layers of the part of the model that a tap is of."""
    one_pass = clue.there.one_pass
    if not clue.tap.startswith("vision."):
        return one_pass.text.layers
    assert one_pass.vision is not None
    return one_pass.vision.layers


def values_of(clue: Clue, weight: Any, rows: Any = None) -> np.ndarray:
    """Return the values of a weight, or of some of its rows, as the producer held them, in float64."""
    held = clue.there.one_pass.held
    values = as_held(weight, held) if rows is None else rows_as_held(weight, rows, held)
    return values.astype(np.float64)


def bias_of(clue: Clue, layer: Any, field: str) -> np.ndarray:
    """Return the bias of a product; zeros where there is none."""
    bias = getattr(layer, field + "_bias", None)
    return np.zeros(getattr(layer, field).shape[0]) if bias is None else values_of(clue, bias)


class Screen(NamedTuple):
    """A few tokens and outputs of a product: enough to tell which weights made it."""

    x: np.ndarray  # [tokens, I]
    y: np.ndarray  # [tokens, rows] the dump's
    t: np.ndarray  # the truth
    rows: np.ndarray

    def left(self, weight: np.ndarray, bias: Any = 0.0) -> float:
        """Return which share of the values is left with other weights: ||y - x W^T|| / ||y||."""
        made = self.x @ weight.T + bias
        norm = float(np.linalg.norm(self.y))
        return float(np.linalg.norm(self.y - made)) / norm if norm else float("inf")


def screen_of(clue: Clue) -> Screen:
    """Take tokens and outputs evenly out of a product."""
    x = clue.input(PRODUCTS[clue.group].source)
    x, y, t = (z.reshape(len(clue.valid), -1)[clue.valid] for z in (x, clue.value, clue.truth))
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), TOKENS)).astype(int))
    rows = np.unique(np.linspace(0, y.shape[1] - 1, min(y.shape[1], ROWS)).astype(int))
    return Screen(x[some], y[some][:, rows], t[some][:, rows], rows)


def product_rule(clue: Clue, weight: Callable[[], np.ndarray], bias: np.ndarray) -> Rule:
    """Return a rule that makes a product with other weights, which are made when it runs: a cause keeps none of them.

    Args:
        clue: the tap.
        weight: makes [O, I] floats.
        bias: [O]; zeros are left out.
    """
    source = PRODUCTS[clue.group].source

    def rule(at: Context) -> np.ndarray:
        added = bias.astype(at.ops.dtype) if bias.any() else None
        return in_heads(at, at.ops.linear(join_heads(at[source]), weight().astype(at.ops.dtype), added))

    return rule


def own_product(at: Context, x: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Make a product from another input with the tap's own weight and bias, or with another weight.

    Args:
        at: the tap, one of `PRODUCTS`.
        x: [B, T, I], or [B, T, N, H] whose heads are joined.
        weight: [O, I]; None takes its own.
    """
    field = PRODUCTS[tap_group(at.tap)].field
    bias = at.vector(field + "_bias") if getattr(at.weights, field + "_bias", None) is not None else None
    own = getattr(at.weights, field) if weight is None else weight
    return in_heads(at, at.ops.linear(join_heads(x), own, bias))


def in_heads(at: Context, y: np.ndarray) -> np.ndarray:
    """View the outputs of a product as the heads that its tap has; as they are where it has none."""
    axes = row_of(at.tap).axes.split()
    if axes[-1] != "H":
        return y
    if at.tap.startswith("vision."):
        return split_heads(y, at.vision.heads)
    return split_heads(y, at.config.kv_heads if "K" in axes else at.config.query_heads)


def held_values(layer: Any, field: str, held: str, transposed: bool = False) -> np.ndarray:
    """Return a weight's values as the producer held them, in float64."""
    values = as_held(getattr(layer, field), held).astype(np.float64)
    return np.ascontiguousarray(values.T) if transposed else values
