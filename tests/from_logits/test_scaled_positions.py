"""Positions that are multiplied in every layer, told from logits alone; with taps it is the rotation's factor."""

import pytest
from support.caused import rotated, table_of
from support.logits_alone import logits_of, text_of

import ref
from ref.emulate.text_rules import LAYER
from ref.from_logits.candidates import Candidate
from ref.from_logits.search import explain
from ref.from_logits.trial import Trial
from ref.hypotheses.hypothesis import mutant_of

IDS = [2, *range(20, 38)]


@pytest.mark.parametrize("factor", [0.6, 1.7])
def test_positions_that_are_multiplied(factor):
    def turned(source):
        return lambda at: rotated(at[source], table_of(at, positions=at.one_pass.positions * factor))

    loaded = ref.load("tiny")
    rules = {LAYER + "attn.q_rope": turned("attn.q_norm"), LAYER + "attn.k_rope": turned("attn.k_norm")}
    text = text_of(loaded, IDS)
    answer = logits_of(loaded, text, Candidate(mutant_of("planted", "Positions are multiplied.", rules), None))
    first = explain(Trial(loaded, text, answer, "float32"))["ranked"][0]
    assert (first["mutant"], first["verdict"]) == ("positions_scaled", "named")
    assert first["parameters"][0]["value"] == pytest.approx(factor, rel=1e-3)
