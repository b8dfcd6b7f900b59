"""What the cache holds: slots turned around, exchanged, stale or lost, in a step behind a prompt."""

import numpy as np
import pytest
from support.caused import only_cause, values_of
from support.judged import as_dump, cached_passes

import ref
from ref import compare
from ref.emulate.graph import RULES
from ref.emulate.text_rules import LAYER

K, SCORES = LAYER + "cache.k", LAYER + "attn.scores"
FOREIGN = np.random.default_rng(5).normal(size=(2, 3, 10)).astype(np.float32)


def planted(change):
    """Change the cache of keys of every layer in a step that continues a prompt; scores are of the changed keys."""

    def cache(at):
        x = RULES[K](at)
        return change(x.copy()) if at.one_pass.cached else x

    def scores(at):
        if not at.one_pass.cached:
            return RULES[SCORES](at)
        q, k = at["attn.q_rope"].astype(np.float64), np.repeat(at["cache.k"], 4, axis=2)
        return (np.einsum("btnh,bsnh->bnts", q, k) * at.config.query_scale).astype(np.float32)

    passes = cached_passes([9, 1], rules={K: cache, SCORES: scores})
    return compare(as_dump(passes, [list(taps) for taps in passes.taps]), loaded=ref.load("tiny"))


def rolled(x):
    x[:, :9] = np.roll(x[:, :9], 2, axis=1)
    return x


def exchanged(x):
    x[:, [0, 1]] = x[:, [1, 0]]
    return x


def stale(x):
    x[:, 7:9] = FOREIGN
    return x


def trimmed(x):
    x[:, :6] = 0
    return x


@pytest.mark.parametrize(
    ("change", "name", "value", "words"),
    [
        (rolled, "cache_rolled_by", {"n": 2}, "the first 9 rows are turned around by 2 slots"),
        (
            exchanged,
            "cache_slots",
            {"order": [1, 0, *range(2, 10)]},
            "slot 0 holds position 1, slot 1 holds position 0",
        ),
        (stale, "cache_stale_of", {"n": 2}, "slots 7..8 hold 2 rows of no token of this dump"),
        (trimmed, "cache_trimmed", {"n": 4}, "only the newest 4 rows are there, 6 are 0"),
    ],
)
def test_what_slots_hold_is_told(change, name, value, words):
    cause = only_cause(planted(change))
    assert (cause["mutant"], values_of(cause), cause["passes"]) == (name, value, [1])
    assert cause["layers"] == list(range(7))
    assert cause["what"] == f"The cache of keys: {words}."
