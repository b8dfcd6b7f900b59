"""What queries see: a window and a horizon of any width, and keys hidden from some queries."""

import numpy as np
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
