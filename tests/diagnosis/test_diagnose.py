"""Whole diagnoses: several mistakes at once, ties, noise that nothing explains, and dumps too small to fit."""

import numpy as np
import pytest
from support.caused import GLOBAL, LOCAL, only_cause, report_of, right, rotated, table_of, values_of
from support.judged import captured, dumped, replaced

import ref
from ref import compare
from ref.emulate.text_rules import LAYER
from ref.mutants import tap_mutants

UP, Q = LAYER + "ffn.up", LAYER + "attn.q_rope"


def times(factor):
    return lambda at: right(UP)(at) * np.float32(factor)


def late(by):
    return lambda at: rotated(at["attn.q_norm"], table_of(at, positions=at.one_pass.positions + by))


def in_layer(layer, tap, rule):
    return {tap: lambda at: (rule if at.layer == layer else right(tap))(at)}


def test_a_clean_dump_has_no_causes_and_no_bases():
    report = report_of({})
    assert report["verdict"] == "match"
    assert (report["causes"], report["bases"], report["proof"]) == ([], [], None)
    assert report["tried"] == {"catalogue": 0, "families": [], "not_tried": []}


def test_two_mistakes_are_both_named_and_explain_the_logits():
    rules = in_layer(LOCAL, UP, times(3)) | in_layer(GLOBAL, Q, late(7))
    report = report_of(rules)
    causes = {one["mutant"]: one for one in report["causes"]}
    assert causes.keys() == {"values_scaled", "positions_shifted"}
    assert (causes["values_scaled"]["layers"], causes["positions_shifted"]["layers"]) == ([LOCAL], [GLOBAL])
    assert values_of(causes["positions_shifted"]) == {"n": 7}
    assert values_of(causes["values_scaled"])["scale"] == pytest.approx(3)
    assert report["proof"]["verdict"] == "explained"
    moves = [one["moves"] for one in report["causes"]]
    assert moves == sorted(moves, reverse=True)


def test_of_a_named_mistake_and_noise_the_proof_says_that_something_remains():
    noise = np.random.default_rng(0).normal(size=(1, 19, 44)).astype(np.float32)
    rules = in_layer(GLOBAL, UP, lambda at: noise) | in_layer(1, Q, late(7))
    report = report_of(rules)
    assert {one["mutant"]: one["verdict"] for one in report["causes"]} == {
        "positions_shifted": "named", "": "unexplained",
    }  # fmt: skip
    assert report["proof"]["verdict"] == "remains"
    assert report["proof"]["first"] == {"tap": f"text.layer.{GLOBAL}.ffn.up", "layer": GLOBAL, "pass": 0}


@pytest.mark.parametrize(("tap", "size"), [("attn.q", 0.01), ("attn.probs", 1.0), ("ffn.pre_norm", 0.1), ("out", 1.0)])
def test_noise_has_no_name(tap, size):
    rng, name = np.random.default_rng(3), f"text.layer.{LOCAL}.{tap}"
    spoiled = replaced(captured(), name, lambda x: x + size * np.std(x) * rng.normal(size=x.shape).astype(np.float32))
    report = compare(dumped(spoiled), loaded=ref.load("tiny"))
    assert report["first"]["tap"] == name
    assert {(one["mutant"], one["verdict"]) for one in report["causes"]} == {("", "unexplained")}
    assert report["proof"] is None
    assert len(report["tried"]["families"]) > 3


def test_one_token_says_what_cannot_be_fitted():
    report = report_of({UP: times(0.7)}, LOCAL, tokens=1)
    assert report["verdict"] == "bug"
    assert report["causes"][0]["mutant"] == "values_scaled"
    assert values_of(report["causes"][0])["scale"] == pytest.approx(0.7)
    left = {one["family"]: one["why"] for one in report["tried"]["not_tried"]}
    assert left["factors of channels"] == "needs at least 8 tokens, got 1"
    assert left["signs"] == "needs at least 2 tokens, got 1"
    assert not set(left) & set(report["tried"]["families"])


def test_a_rotation_of_two_tokens_is_not_fitted_with_a_base():
    report = report_of({Q: lambda at: rotated(at["attn.q_norm"], table_of(at, base=77.0))}, LOCAL, tokens=2)
    assert {"family": "rotary base and factor", "why": "needs at least 3 tokens, got 2"} in report["tried"]["not_tried"]
    assert "rotary_base" not in {one["mutant"] for one in report["causes"]}


def test_a_mistake_of_the_catalogue_keeps_its_name_where_a_fit_explains_it_as_well():
    cause = only_cause(report_of(tap_mutants()["window_plus_one"].rules, LOCAL))
    assert (cause["mutant"], cause["parameters"]) == ("window_plus_one", [])
