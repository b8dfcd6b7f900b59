"""What queries see: a window and a horizon of any width, and keys hidden from some queries."""

import numpy as np
import pytest
from support.caused import GLOBAL, LOCAL, only_cause, report_of, values_of

from ref.emulate.text_rules import LAYER

VISIBLE = LAYER + "attn.visible"


def within(width):
    def rule(at):
        ago = np.arange(19)[:, None] - np.arange(19)
        return ((ago >= 0) & (ago < width))[None]

    return {VISIBLE: rule}


def test_a_window_of_another_width():
    cause = only_cause(report_of(within(3), LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("window", {"n": 3})
    assert cause["parameters"][0]["wanted"] == 5


def test_a_horizon_of_a_global_layer():
    cause = only_cause(report_of(within(11), GLOBAL))
    assert (cause["mutant"], values_of(cause)) == ("horizon", {"n": 11})
    assert cause["parameters"][0]["wanted"] is None
    assert cause["layers"] == [GLOBAL]


def test_keys_that_are_hidden_from_later_queries():
    def rule(at):
        seen = np.tril(np.ones((19, 19), bool))
        seen[8:, 2:5] = False
        return seen[None]

    cause = only_cause(report_of({VISIBLE: rule}, GLOBAL))
    assert cause["mutant"] == "keys_hidden"
    assert cause["parameters"][0]["words"] == "2..4"
    assert cause["what"] == "Keys 2..4 are hidden from queries 8..18."


@pytest.mark.parametrize(
    ("layer", "queries", "keys", "words"),
    [
        (GLOBAL, (2, 4), (7, 9), "Keys 7..8 are shown to queries 2..3."),  # of the future
        (LOCAL, (12, 19), (0, 3), "Keys 0..2 are shown to queries 12..18."),  # out of the window
    ],
)
def test_keys_that_are_shown_though_no_query_may_see_them(layer, queries, keys, words):
    def rule(at):
        ago = np.arange(19)[:, None] - np.arange(19)
        seen = (ago >= 0) & (ago < (5 if layer == LOCAL else 19))
        seen[slice(*queries), slice(*keys)] = True
        return seen[None]

    cause = only_cause(report_of({VISIBLE: rule}, layer))
    assert (cause["mutant"], values_of(cause)) == ("keys_shown", {"keys": [keys[0], keys[1] - 1]})
    assert (cause["what"], cause["layers"]) == (words, [layer])
