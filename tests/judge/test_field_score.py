"""The score of the bench of the field: what counts as placed, named and exact, in reports with and without causes."""

from bench.field_cases.case import About, Answer, AnyOf, Planted
from bench.field_cases.score import Score, is_value, others, score

TAP = "text.layer.3.attn.q_rope"
SHIFTED = Planted((TAP,), (Answer("positions_shifted", {"n": 5}),), "n=5")


def cause(mutant="positions_shifted", value=5, tap=TAP, **more):
    return {
        "mutant": mutant,
        "verdict": "named",
        "first": {"tap": tap},
        "parameters": [{"name": "n", "value": value}],
    } | more


def report(*causes, first=TAP, verdict="bug"):
    return {"verdict": verdict, "first": first and {"tap": first}, "causes": list(causes)}


def test_a_name_with_its_number_is_exact():
    assert score(report(cause()), SHIFTED) == Score(True, True, True, True)


def test_another_number_is_named_only():
    assert score(report(cause(value=6)), SHIFTED) == Score(True, True, True, False)


def test_a_number_that_is_not_said_is_not_exact():
    assert score(report(cause(parameters=[])), SHIFTED) == Score(True, True, True, False)


def test_another_name_does_not_count_and_is_listed():
    wrong = report(cause("rope_missing"))
    assert score(wrong, SHIFTED) == Score(True, True, False, False)
    assert others(wrong, [SHIFTED]) == ["rope_missing"]


def test_a_tie_names_every_mutant_of_it_but_has_one_number():
    tied = report(cause("rotary_base", verdict="tied", tied_with=["positions_shifted"]))
    assert score(tied, SHIFTED) == Score(True, True, True, False)
    assert others(tied, [SHIFTED]) == []


def test_what_is_unexplained_names_nothing():
    assert not score(report(cause(verdict="unexplained")), SHIFTED).named


def test_another_tap_is_not_placed():
    assert not score(report(cause(), first="text.layer.2.out"), SHIFTED).placed


def test_no_bug_is_not_caught():
    assert score(report(first=None, verdict="match"), SHIFTED) == Score(False, False, False, False)


def test_of_several_mistakes_each_needs_a_cause_at_its_own_tap():
    first = "text.embed"
    assert score(report(cause(), first=first), SHIFTED, alone=False) == Score(True, True, True, True)
    elsewhere = report(cause(tap="text.layer.2.attn.q_rope"), first=first)
    assert score(elsewhere, SHIFTED, alone=False) == Score(True, False, False, False)


def test_a_report_without_causes_is_scored_by_its_diagnosis():
    rows = [{"mutant": "positions_shifted", "verdict": "named"}]
    old = {"verdict": "bug", "first": {"tap": TAP}, "diagnosis": rows, "taps": []}
    assert score(old, SHIFTED) == Score(True, True, True, False)


def test_values():
    assert is_value(2.03, About(2.0))
    assert not is_value(2.05, About(2.0))
    assert not is_value("2.0", About(2.0))
    assert is_value("ids", AnyOf(("ids", "tokens")))
    assert not is_value("heads", AnyOf(("ids", "tokens")))
    assert is_value([2, 0, 1], [2, 0, 1])
    assert not is_value([1, 2, 0], [2, 0, 1])
    assert not is_value(6, 5)
