"""The first divergence's rows follow the causes: what all taps name is named there, once."""

from ref.judge.make_report import _as_caused
from ref.measure.tap_finding import TapFinding

FIRST = TapFinding("vision.soft_norm", 0, "float32", verdict="bug")


def row(mutant, left, number, verdict):
    return {"mutant": mutant, "left": left, "class": number, "verdict": verdict}


def named(mutant, *tied):
    return [{"mutant": mutant, "tied_with": list(tied), "taps": ["vision.soft_norm"], "passes": [0]}]


def test_of_a_whole_mistake_and_a_part_of_it_the_one_that_explains_is_named():
    rows = [
        row("soft_norm_missing", 0.9, 0, "named"),
        row("soft_norm_missing", 5e6, 3, "cleared"),
        row("x", 7, 4, "cleared"),
    ]
    told = _as_caused(rows, named("soft_norm_missing"), FIRST)
    assert [(one["left"], one["verdict"]) for one in told] == [(0.9, "named"), (5e6, "cleared"), (7, "cleared")]


def test_what_ties_here_and_explains_fewer_taps_is_cleared():
    rows = [row("a", 0.8, 0, "tied"), row("b", 0.9, 0, "tied"), row("c", 9.0, 1, "cleared")]
    told = _as_caused([dict(one) for one in rows], named("b"), FIRST)
    assert [(one["mutant"], one["verdict"]) for one in told] == [("b", "named"), ("c", "cleared"), ("a", "cleared")]
    both = _as_caused([dict(one) for one in rows], named("b", "a"), FIRST)
    assert [one["verdict"] for one in both] == ["tied", "tied", "cleared"]
