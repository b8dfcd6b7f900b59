"""Where a mistake is: ids, tokens, heads or channels that have it, and the rest that has not."""

import numpy as np
import pytest
from support.caused import LOCAL, only_cause, report_of, right, values_of

import ref
from ref.emulate.text_rules import LAYER

GATE = LAYER + "ffn.gate"


def unscaled(ids):
    def rule(at):
        rows = ref.load("tiny").params.embedding[at.one_pass.ids]
        return rows * np.where(np.isin(at.one_pass.ids, ids), 1, 6)[..., None].astype(np.float32)

    return {"text.embed": rule}


def test_rows_of_the_embedding_are_told_by_their_ids():
    cause = only_cause(report_of(unscaled([24, 31]), tokens=19))
    assert values_of(cause)["axis"] == "ids"
    assert values_of(cause)["which"] == [24, 31]
    assert cause["where"] == "2 of 19 tokens, those with ids 24, 31"
    assert cause["mutant"] == "embed_unscaled"


def test_channels_that_are_0():
    def rule(at):
        x = right(GATE)(at).copy()
        x[..., 30:41] = 0
        return x

    cause = only_cause(report_of({GATE: rule}, LOCAL))
    assert (cause["mutant"], cause["where"]) == ("part_missing", "channels 30..40")
    assert values_of(cause) == {"axis": "channels", "start": 30, "stop": 41}


def in_heads_only(tap, source, heads):
    """Leave an operation out for some heads."""

    def rule(at):
        x = right(tap)(at).copy()
        x[:, :, heads] = at[source][:, :, heads]
        return x

    return report_of({LAYER + tap: rule}, LOCAL)


def test_heads_that_are_not_normed():
    cause = only_cause(in_heads_only("attn.q_norm", "attn.q", [5, 6]))
    assert cause["mutant"] == "q_norm_missing"
    assert values_of(cause) == {"axis": "heads", "which": [5, 6]}
    assert cause["where"] == "heads 5..6"


@pytest.mark.parametrize(("heads", "where"), [([2], "heads 2"), ([4, 5, 9], "heads 4..5, 9")])
def test_two_mistakes_that_agree_in_some_heads_stay_tied(heads, where):
    # to leave the rotation out, and to do it before the norm, both give the norm's own values here
    (cause,) = in_heads_only("attn.q_rope", "attn.q_norm", heads)["causes"]
    assert (cause["mutant"], cause["verdict"], cause["tied_with"]) == ("rope_missing", "tied", ["rope_before_norm"])
    assert values_of(cause) == {"axis": "heads", "which": heads}
    assert cause["where"] == where
