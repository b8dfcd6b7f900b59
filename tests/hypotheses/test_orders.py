"""Orders and signs that no later operation expects: heads, channels and tokens in each other's places."""

import numpy as np
import pytest
from support.caused import LOCAL, only_cause, report_of, right, values_of

from ref.emulate.text_rules import LAYER
from ref.hypotheses.permutations import order_of, pattern_of

V, UP, GATE = LAYER + "attn.v", LAYER + "ffn.up", LAYER + "ffn.gate"


def changed(tap, change):
    return {tap: lambda at: change(right(tap)(at)).copy()}


@pytest.mark.parametrize(
    ("rules", "name", "value"),
    [
        (changed(V, lambda x: x[:, :, [2, 0, 1]]), "heads_permuted", {"order": [2, 0, 1]}),
        (
            changed(GATE, lambda x: x.reshape(1, -1, 4, 11).swapaxes(2, 3).reshape(x.shape)),
            "channels_permuted",
            {"order": np.arange(44).reshape(4, 11).T.ravel().tolist()},
        ),
        (
            changed(UP, lambda x: x * np.where(np.isin(np.arange(44), [3, 8, 20]), -1, 1).astype(np.float32)),
            "signs_reversed",
            {"channels": [3, 8, 20]},
        ),
        (changed(UP, lambda x: -x), "signs_reversed", {"channels": "all"}),
        (
            changed("text.embed", lambda x: x[:, [*range(4), 9, *range(5, 9), 4, *range(10, 19)]]),
            "tokens_permuted",
            {"order": [*range(4), 9, *range(5, 9), 4, *range(10, 19)]},
        ),
        (changed(UP, lambda x: np.concatenate([x[:, :2], x[:, :-2]], axis=1)), "tokens_shifted", {"n": 2}),
    ],
)
def test_an_order_is_read_off(rules, name, value):
    embed = "text.embed" in rules
    cause = only_cause(report_of(rules, None if embed else LOCAL))
    assert (cause["mutant"], values_of(cause)) == (name, value)
    assert cause["layers"] == ([] if embed else [LOCAL])


def test_rows_are_matched_and_equal_ones_stay_in_their_places():
    t = np.random.default_rng(0).normal(size=(6, 40))
    t[5] = t[1]
    order = np.array([2, 1, 0, 3, 4, 5])
    found = order_of(t[order], t)
    assert found is not None
    assert found.tolist() == order.tolist()
    assert order_of(t, t) is None
    assert order_of(-t[order], t) is None
    assert order_of(-t[order], t, signs=True) is not None


def test_rows_that_are_like_none_have_no_order():
    y, t = np.random.default_rng(0).normal(size=(2, 8, 400))
    assert order_of(y, t) is None


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([3, 2, 1, 0], "reversed"),
        ([0, 3, 1, 4, 2, 5], "pairs interleaved: j, j + half, j + 1, ..."),
        ([0, 2, 4, 1, 3, 5], "pairs taken apart: even ones, then odd ones"),
        (np.arange(12).reshape(3, 4).T.ravel(), "3 x 4 transposed"),
        ([4, 5, 0, 1, 2, 3], "rolled by 2"),
        ([1, 2, 3, 4, 5, 6, 0], "rolled by -1"),
        ([1, 0, 2, 4, 3], ""),
    ],
)
def test_usual_orders_are_told_in_words(order, words):
    assert pattern_of(np.array(order)) == words
