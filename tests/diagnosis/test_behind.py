"""Mistakes with a number are named with it where the dump shows neither the operation nor its result."""

import numpy as np
import pytest
from support.caused import normed, only_cause, right, values_of
from support.judged import captured, dumped

import ref
from ref import compare
from ref.emulate.text_rules import LAYER, NORMS

SCORES = LAYER + "attn.scores"


def times(factor):
    return {SCORES: lambda at: right(SCORES)(at) * np.float32(factor)}


def capped(cap):
    return {SCORES: lambda at: (cap * np.tanh(right(SCORES)(at) / cap)).astype(np.float32)}


def fused(name):
    return name not in ("attn.scores", "attn.probs")


def ends(name):
    return name in ("in", "out", "whole")


def seen_up_to(keys):
    return {LAYER + "attn.visible": lambda at: at.one_pass.visible(at.layer, keys)}


def norms_with(epsilon):
    def rule(at):
        name, field = NORMS[LAYER + at.tap.split(".", 3)[3]]
        return normed(at[name], at.vector(field), epsilon)

    return {group: rule for group in NORMS if group.startswith(LAYER)}


def cause_of(rules, shows, dtype="float32"):
    arrays = captured(rules, dtype)
    some = {tap: x for tap, x in arrays.items() if shows(tap.split(".", 3)[3] if ".layer." in tap else "whole")}
    assert not [tap for tap in some if tap.endswith(("attn.scores", "attn.probs"))]
    return only_cause(compare(dumped(some, dtype), loaded=ref.load("tiny")))


@pytest.mark.parametrize(
    ("rules", "shows", "name", "value"),
    [
        (times(1.2), fused, "softmax_scale", 1.2 * 15**-0.5),
        (times(1.2), ends, "softmax_scale", 1.2 * 15**-0.5),
        (capped(7.3), fused, "attention_softcap_of", 7.3),
        (capped(7.3), ends, "attention_softcap_of", 7.3),
        (norms_with(2.5e-4), ends, "norm_epsilon", 2.5e-4),
        (seen_up_to(9), ends, "window", 9),  # wider than the window of 5
        (seen_up_to(3), ends, "window", 3),
    ],
)
def test_a_number_behind_the_taps(rules, shows, name, value):
    cause = cause_of(rules, shows)
    assert (cause["mutant"], cause["layers"]) == (name, list(range(7)))
    ((_, found),) = values_of(cause).items()
    assert found == pytest.approx(value, rel=1e-5)
    assert cause["first"]["tap"] == ("text.layer.0.attn.mix" if shows is fused else "text.layer.0.out")


def test_in_bfloat16_the_number_has_its_error():
    cause = cause_of(capped(7.3), fused, "bfloat16")
    [one] = cause["parameters"]
    assert cause["mutant"] == "attention_softcap_of"
    assert abs(one["value"] - 7.3) < 6 * one["stderr"] < 0.5


def test_fused_attention_tells_what_it_did_inside():
    arrays = {tap: x for tap, x in captured().items() if fused(tap.split(".", 3)[-1])}
    rows = {one["tap"]: one for one in compare(dumped(arrays), loaded=ref.load("tiny"))["taps"]}
    assert rows["text.layer.0.attn.mix"]["span"] == ["text.layer.0.attn.scores", "text.layer.0.attn.probs"]
