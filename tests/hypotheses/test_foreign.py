"""Weights of another tensor, and sums that lack a part or take heads in another order."""

import numpy as np
import pytest
from support.caused import LOCAL, in_heads, normed, only_cause, product, report_of, values_of, weight_of

from ref.emulate.text_rules import LAYER

Q, OUT, DOWN = LAYER + "attn.q", LAYER + "attn.out", LAYER + "ffn.out"


@pytest.mark.parametrize(
    ("tap", "source", "layer", "field", "name", "value"),
    [
        ("attn.q", "attn.pre_norm", 5, "q", "weights_of_layer", {"layer": 5}),
        ("attn.out", "attn.mix", 0, "attn_out", "weights_of_layer", {"layer": 0}),
        ("ffn.out", "ffn.act", 2, "down", "weights_of_layer", {"layer": 2}),
        ("attn.v", "attn.pre_norm", LOCAL, "k", "weights_of_tensor", {"tensor": "layer.3.k"}),
        ("ffn.up", "ffn.pre_norm", 4, "gate", "weights_of_tensor", {"tensor": "layer.4.gate"}),
    ],
)
def test_weights_of_another_tensor(tap, source, layer, field, name, value):
    def rule(at):
        y = product(at[source], weight_of(layer, field))
        return in_heads(y) if tap in ("attn.q", "attn.v") else y

    cause = only_cause(report_of({LAYER + tap: rule}, LOCAL))
    assert (cause["mutant"], values_of(cause), cause["layers"]) == (name, value, [LOCAL])
    assert cause["taps"] == [f"text.layer.{LOCAL}.{tap}"]


@pytest.mark.parametrize(
    ("layer", "field", "name", "value"),
    [
        (6, "pre_ffn_norm", "weights_of_layer", {"layer": 6}),
        (LOCAL, "pre_attn_norm", "weights_of_tensor", {"tensor": "layer.3.pre_attn_norm"}),
    ],
)
def test_a_gain_of_another_norm(layer, field, name, value):
    rule = {LAYER + "ffn.pre_norm": lambda at: normed(at["mid"], weight_of(layer, field))}
    cause = only_cause(report_of(rule, LOCAL))
    assert (cause["mutant"], values_of(cause)) == (name, value)


def test_layers_in_another_order_are_told_as_one():
    order = [0, 4, 2, 3, 1, 5, 6]
    fields = {"attn.q": "q", "attn.k": "k", "attn.v": "v", "ffn.gate": "gate", "ffn.up": "up"}

    def rule(name, field):
        source = "attn.pre_norm" if name.startswith("attn") else "ffn.pre_norm"
        heads = in_heads if name.startswith("attn") else lambda y: y
        return lambda at: heads(product(at[source], weight_of(order[at.layer], field)))

    report = report_of({LAYER + name: rule(name, field) for name, field in fields.items()})
    cause = only_cause(report)
    assert (cause["mutant"], cause["layers"]) == ("weights_of_layer", [1, 4])
    assert cause["what"] == "Layers have the weights of others: 1 has 4, 4 has 1."


@pytest.mark.parametrize(("start", "stop"), [(33, 44), (17, 26)])
def test_a_chunk_of_the_inputs_that_a_sum_lacks(start, stop):
    def rule(at):
        x = at["ffn.act"].copy()
        x[..., start:stop] = 0
        return product(x, at.weights.down)

    cause = only_cause(report_of({DOWN: rule}, LOCAL))
    assert cause["mutant"] == "part_missing"
    assert values_of(cause) == {"axis": "input", "start": start, "stop": stop}


def test_a_chunk_of_the_inputs_that_a_sum_into_heads_lacks():
    def rule(at):
        x = at["attn.pre_norm"].copy()
        x[..., 17:26] = 0
        return in_heads(product(x, at.weights.q))

    cause = only_cause(report_of({Q: rule}, LOCAL))
    assert cause["mutant"] == "part_missing"
    assert values_of(cause) == {"axis": "input", "start": 17, "stop": 26}


def test_a_shard_of_heads_that_is_missing():
    def rule(at):
        x = at["attn.mix"].copy()
        x[:, :, 8:] = 0
        return product(x, at.weights.attn_out)

    cause = only_cause(report_of({OUT: rule}, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("part_missing", {"axis": "input", "start": 80, "stop": 120})


def test_heads_that_the_output_projection_takes_in_another_order():
    order = np.random.default_rng(3).permutation(12)
    rule = {OUT: lambda at: product(at["attn.mix"][:, :, order], at.weights.attn_out)}
    cause = only_cause(report_of(rule, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("heads_permuted", {"order": order.tolist()})
