"""Scales, softcaps and clamps with any number are named with that number, and known numbers recognised."""

import numpy as np
import pytest
from support.caused import LOCAL, only_cause, report_of, right, values_of

import ref
from ref.emulate.text_rules import LAYER

SCORES, PROBS, UP, ACT = (LAYER + name for name in ("attn.scores", "attn.probs", "ffn.up", "ffn.act"))


def times(name, factor):
    return {name: lambda at: right(name)(at) * np.float32(factor)}


def capped(name, cap):
    return {name: lambda at: (cap * np.tanh(right(name)(at) / cap)).astype(np.float32)}


def embedded(scale):
    return {"text.embed": lambda at: ref.load("tiny").params.embedding[at.one_pass.ids] * np.float32(scale)}


@pytest.mark.parametrize(
    ("rules", "layer", "name", "parameter", "value", "words"),
    [
        (times(UP, 0.7), LOCAL, "values_scaled", "scale", 0.7, ""),
        (embedded(5.5), None, "embedding_scaled", "scale", 5.5, ""),
        (embedded(36**0.25), None, "embedding_scaled", "scale", 36**0.25, "D^(1/4)"),
        (times(SCORES, (15 / 20) ** 0.5), LOCAL, "softmax_scale", "scale", 20**-0.5, "1/sqrt(2H)"),
        (times("text.logits", 0.5), None, "logits_scaled", "scale", 0.5, "1/2"),
        (capped("text.logits", 12.5), None, "logit_softcap_of", "cap", 12.5, ""),
        (capped(SCORES, 7.3), LOCAL, "attention_softcap_of", "cap", 7.3, ""),
        ({ACT: lambda at: np.clip(right(ACT)(at), -0.4, 0.4)}, LOCAL, "clamped", "limit", 0.4, ""),
    ],
)
def test_a_number_is_read_off(rules, layer, name, parameter, value, words):
    cause = only_cause(report_of(rules, layer))
    assert cause["mutant"] == name
    assert cause["where"] == ""
    assert cause["layers"] == ([] if layer is None else [layer])
    (one,) = cause["parameters"]
    assert (one["name"], one["words"]) == (parameter, words)
    assert one["value"] == pytest.approx(value, rel=1e-5)
    if one["stderr"]:
        assert abs(one["value"] - value) < 6 * one["stderr"] + 1e-7 * value


def test_one_scale_in_all_layers_is_told_once():
    cause = only_cause(report_of(times(UP, 1.25)))
    assert cause["mutant"] == "values_scaled"
    assert values_of(cause)["scale"] == pytest.approx(1.25, rel=1e-6)
    assert cause["layers"] == list(range(7))
    assert cause["first"] == {"tap": "text.layer.0.ffn.up", "layer": 0, "pass": 0}


def test_a_scale_behind_the_tap_of_scores_is_read_off_the_weights():
    def sharper(at):
        scores = right(SCORES)(at).astype(np.float64) * 1.7
        ago = np.arange(19)[:, None] - np.arange(19)
        scores[..., (ago < 0) | (ago >= 5)] = -np.inf
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)

    cause = only_cause(report_of({PROBS: sharper}, LOCAL))
    assert cause["mutant"] == "softmax_scale"
    assert values_of(cause)["scale"] == pytest.approx(1.7 * 15**-0.5, rel=1e-4)
    assert cause["first"]["tap"] == f"text.layer.{LOCAL}.attn.probs"
