"""Causes in plain words: the number, the layers, the place in the tensor; other bases; what was tried."""

import pytest
from support.report_causes import at_k, basis, cause, fitted, parameter, unexplained
from support.report_examples import NAMED, TIED, WRONG, example, rope_bug

from ref.report.bases import basis_words, tried_words
from ref.report.causes import cause_at, cause_facts, cause_words, in_layers, told_where
from ref.report.figures import in_floors, percent, plain, runs_of, with_error

INF = float("inf")
CLEAN, _ = example()


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([3], " in layer 3"),
        ([5, 11, 17], " in layers 5, 11, 17"),
        ([0, 1, 2, 3, 7], " in layers 0..3, 7"),
        ([4, 5], " in layers 4, 5"),
        (range(18), " in all 18 layers"),
        ([], ""),
    ],
)
def test_layers_are_said_as_ranges(layers, said):
    assert in_layers(list(layers), ["text.layer.*.attn.k"], CLEAN) == said


def test_all_layers_are_told_as_all_only_where_the_dump_has_the_whole_model():
    part = CLEAN | {"compared": {"taps": 300, "of_dump": 300, "of_model": 417}}
    assert in_layers(list(range(18)), ["text.layer.*.attn.k"], part) == " in layers 0..17"
    assert in_layers(list(range(18)), ["vision.layer.*.attn.k"], CLEAN) == " in layers 0..17"


def test_a_cause_says_its_number_its_place_and_its_name():
    assert cause_words(at_k([3]), CLEAN) == (
        "k has the weights of layer 1, not those of its own (layer 3) (weights_of_layer)"
    )
    assert "(layer" not in cause_words(at_k([3, 4]), CLEAN)
    scale = parameter("scale", 0.132491234, 3.1e-5, 0.0625)
    one = fitted("softmax_scale", "Scores are multiplied by 0.132491, not by 0.0625.", WRONG, parameters=[scale])
    assert cause_words(one, CLEAN, " in layers 5, 11") == (
        "scores are multiplied by 0.132491, not by 0.0625, in layers 5, 11 (softmax_scale, scale 0.13249 +- 3e-05)"
    )
    part = fitted("embed_unscaled", "Embeddings are not multiplied by sqrt(D).", "text.embed", where="tokens 4..7")
    assert cause_words(part, CLEAN).startswith("embeddings are not multiplied by sqrt(D), only in tokens 4..7 (")
    zero = fitted("part_missing", "The values of channels 40..43 are 0.", WRONG, where="channels 40..43")
    assert cause_words(zero, CLEAN) == "the values of channels 40..43 are 0 (part_missing)"


def test_a_coefficient_that_is_not_sure_is_said():
    row = NAMED[0] | {"coefficient": 0.944, "stderr": 0.039}
    assert cause_words(cause(row, WRONG), CLEAN).endswith("(rope_interleaved, c = 0.94 +- 0.04)")


def test_sentences_that_say_the_same_of_several_weights_are_one():
    what = " ".join(f"{name} has the weights of layer 5, not those of its own." for name in ("gate", "up", "down"))
    one = fitted("weights_of_layer", what, "text.layer.6.ffn.gate", "text.layer.6.ffn.up")
    assert cause_words(one, CLEAN) == (
        "gate, up and down have the weights of layer 5, not those of their own (layer 6) (weights_of_layer)"
    )
    assert told_where(one, CLEAN) == "ffn.gate, ffn.up in layer 6"


def test_an_unknown_mistake_says_what_comes_near():
    near = CLEAN | {"fits": [{"kind": "scale", "what": "times 25.25", "left": 0.9, "tap": WRONG, "pass": 0}]}
    assert cause_words(unexplained(WRONG), near).endswith(", though near it comes: times 25.25")
    assert cause_words(unexplained("text.embed"), near) == "no mistake that is known here"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("The sum lacks channels 3..3.", "the sum lacks channels 3"),
        ("GELU is the exact one.", "GELU is the exact one"),
        ("RoPE pairs channels.", "RoPE pairs channels"),
        ("A local layer sees 3 keys.", "a local layer sees 3 keys"),
        ("Gemma's norm.", "Gemma's norm"),
        ("Pairs: j, j + 1, ....", "pairs: j, j + 1, ..."),
        ("x.y has 10..12", "x.y has 10..12"),
    ],
)
def test_what_a_mistake_is_becomes_a_part_of_a_sentence(what, said):
    assert plain(what) == said


def test_parameters_stand_with_their_error_and_what_is_right():
    values = [
        parameter("scale", 25.0, None, 25.2982212813, "int(sqrt(D))"),
        parameter("epsilon", 2.44987e-5, 9.7e-9, 1e-6),
        parameter("order", [1, 0], None, None, "0 holds 1"),
        parameter("values", list(range(40)), None, None, "0..3 right, 4..4 2 too large"),
        parameter("limit", 65504.0, None, None, "the largest float16"),
    ]
    facts = dict(cause_facts(fitted("x", "X.", WRONG, parameters=values), CLEAN))
    assert facts["scale"] == "25 = int(sqrt(D)); right: 25.2982"
    assert facts["epsilon"] == "2.4499e-05 +- 1e-08; right: 1e-06"
    assert facts["order"] == "1, 0"
    assert facts["values"] == "0..3 right, 4 2 too large"
    assert facts["limit"] == "65504 = the largest float16"
    assert "seen" not in facts
    assert facts["moves"] == "the logits by 5.5 % of the norm"
    assert facts["at"] == "attn.q_rope in layer 3, pass 0: 1 tap"
    known = dict(cause_facts(cause(NAMED[0], "text.layer.3.mid", "text.layer.4.mid", passes=(0, 1, 2)), CLEAN))
    assert known["at"] == "mid in layers 3, 4, passes 0..2: 2 taps, first text.layer.3.mid"
    assert known["seen"] == "in owner/port#7"


def test_numbers_have_the_digits_of_their_errors():
    assert [with_error(v, s) for v, s in [(0.123456789, 1e-4), (5.0, None), (1e-6, 2e-7), (3.0, INF), (0.0, 1.0)]] == [
        "0.12346 +- 0.0001",
        "5",
        "1e-06 +- 2e-07",
        "3",
        "0",
    ]
    assert [percent(x) for x in (0.0, 1e-9, 5.4e-6, 0.055, 0.967, 1.32)] == [
        "0 %",
        "less than 0.0001 %",
        "0.00054 %",
        "5.5 %",
        "97 %",
        "132 %",
    ]
    assert [in_floors(x) for x in (INF, 41.23, 0.0)] == ["differs", "41.2 floors", "0 floors"]
    assert runs_of([0, 2, 4, 6, 8, 10, 12, 14]) == "0, 2, 4, 6, 8, 10 and 2 more"


# --- other bases, and what was tried --------------------------------------------------------------------------------


def test_bases_of_one_kind_are_told_once():
    rows = [basis(f"Heads stand in another order: 0 holds {layer}, 1 holds 0.", layer) for layer in (0, 1, 2, 5)]
    assert basis_words(rows, CLEAN) == ["heads stand in another order in layers 0..2, 5; cancels at attn.scores"]
    assert basis_words(rows[:1], CLEAN) == [
        "heads stand in another order: 0 holds 0, 1 holds 0 in layer 0; cancels at attn.scores"
    ]
    signs = [basis(f"The sign of {count} of 44 channels is reversed.", count, "ffn.out") for count in (4, 9)]
    assert basis_words(signs, CLEAN) == [
        "the sign of 4 of 44 channels is reversed, and the like, in layers 4, 9; cancels at ffn.out"
    ]
    assert len(basis_words([*rows, *signs], CLEAN)) == 2


def test_what_was_tried_and_what_could_not_be():
    tried = {
        "catalogue": 15,
        "families": ["scale", "positions"],
        "not_tried": [{"family": "signs", "why": "needs two tokens"}],
    }
    assert tried_words(tried) == [
        "tried: 15 known mistakes; 2 kinds with numbers to be fitted: scale, positions",
        "not tried: signs: needs two tokens",
    ]
    assert tried_words({"catalogue": 0, "families": [], "not_tried": []}) == []


def test_a_tap_finds_its_cause():
    report = CLEAN | {"causes": [at_k([3]), cause(TIED[0], "text.embed", passes=(1,))]}
    row = {"tap": "text.layer.3.attn.k", "pass": 0}
    assert cause_at(row, report) is report["causes"][0]
    assert cause_at(row | {"pass": 1}, report) is None
    assert cause_at(row, example()[0]) is None
    assert cause_at({"tap": WRONG, "pass": 0}, rope_bug()[0])["mutant"] == "rope_interleaved"
