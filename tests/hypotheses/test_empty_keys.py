"""Slots of a cache that hold nothing are seen: how many is read off the probabilities, or off what is mixed."""

import numpy as np
import pytest
from support.caused import GLOBAL, LOCAL, only_cause, report_of, right, values_of
from support.judged import captured, dumped

import ref
from ref import compare
from ref.emulate.text_rules import LAYER

PROBS = LAYER + "attn.probs"


def beside_empty(count, window=None):
    """Return the softmax over the visible keys and so many of score 0."""

    def rule(at):
        scores = right("attn.scores")(at).astype(np.float64)
        ago = np.arange(19)[:, None] - np.arange(19)
        hidden = (ago < 0) | (ago >= (window or 19))
        powers = np.where(hidden, 0, np.exp(scores))
        return (powers / (powers.sum(axis=-1, keepdims=True) + count)).astype(np.float32)

    return {PROBS: rule}


@pytest.mark.parametrize(("layer", "window"), [(LOCAL, 5), (GLOBAL, None)])
@pytest.mark.parametrize("count", [2, 13, 400])
def test_the_number_of_empty_keys_is_read_off(layer, window, count):
    cause = only_cause(report_of(beside_empty(count, window), layer))
    assert (cause["mutant"], cause["layers"]) == ("empty_keys_seen", [layer])
    assert values_of(cause) == {"n": count}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fused_attention_shows_them_in_what_is_mixed(dtype):
    taps = captured(beside_empty(13), dtype, 19, GLOBAL)
    shown = {name: value for name, value in taps.items() if not name.endswith(("attn.scores", "attn.probs"))}
    cause = only_cause(compare(dumped(shown, dtype), loaded=ref.load("tiny")))
    assert (cause["mutant"], values_of(cause)) == ("empty_keys_seen", {"n": 13})


def test_one_of_them_is_a_sink():
    assert only_cause(report_of(beside_empty(1), GLOBAL))["mutant"] == "softmax_with_sink"


def test_probabilities_times_a_number_are_not_that():
    halved = {PROBS: lambda at: right("attn.probs")(at) * np.float32(0.9)}
    cause = only_cause(report_of(halved, GLOBAL))
    assert (cause["mutant"], values_of(cause)["scale"]) == ("values_scaled", pytest.approx(0.9, rel=1e-5))
