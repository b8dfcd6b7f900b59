"""A report beside an earlier one: what moved, what is noise, and what cannot be compared."""

import copy
import json

import pytest
from support.report_examples import INF, WRONG, at, example, rope_bug, wrong
from support.reports import checked

from ref.commands.shared import finite
from ref.report.html import render_html
from ref.report.regression import KINDS, NOISE, in_words, moved_rows, reduced, refused, set_beside
from ref.report.text import render_text

TAP = "text.layer.7.ffn.out"


def moved(by, tap=TAP, start=1.0):
    """Return two reports that differ in one tap's local error."""
    before, _ = example()
    at(before, tap)["local_ratio"] = start
    now = copy.deepcopy(before)
    at(now, tap)["local_ratio"] = start + by
    return before, now


def beside(before, now, **how):
    found = set_beside(before, now, "last", **how)
    assert sum(found[kind] for kind in KINDS) == len(found["taps"])
    return found


def test_a_report_beside_itself_is_the_same():
    report, _ = rope_bug()
    found = beside(report, copy.deepcopy(report))
    assert found["same"] == len(report["taps"])
    assert (found["comparable"], found["why"], found["changed_beside"]) == (True, [], [])
    assert {row["moved"] for row in found["taps"]} <= {0.0, None}
    assert in_words(found) == f"beside the baseline last: nothing moved by more than {NOISE:g} floors"


def test_what_a_reduced_report_keeps_is_all_that_is_needed():
    before, now = example()[0], rope_bug(seed=3)[0]
    small = json.loads(json.dumps(reduced(before)))
    assert set_beside(small, now, "last") == set_beside(before, now, "last")
    assert len(json.dumps(small)) < len(json.dumps(before)) / 3


@pytest.mark.parametrize("by", [0.99, -0.99])
def test_noise_is_not_told_and_what_is_more_is(by):
    assert beside(*moved(by * NOISE, start=0.9))["same"] == len(example()[0]["taps"])
    found = beside(*moved(by / 0.9 * NOISE, start=0.5))
    assert moved_rows({"regression": found})[0]["tap"] == TAP
    assert found["worse" if by > 0 else "better"] == 1
    assert beside(*moved(by, start=1.5), noise=0.1)["same"] == len(example()[0]["taps"]) - 1


def test_far_above_the_floor_noise_grows_with_the_error():
    assert beside(*moved(300.0, start=1000.0))["worse"] == 0
    assert beside(*moved(600.0, start=1000.0))["worse"] == 1


def test_a_change_of_a_verdict_comes_first_however_little_it_moved():
    before, now = moved(50.0)
    at(before, "text.layer.9.mid")["local_ratio"] = 1.99
    at(now, "text.layer.9.mid").update(local_ratio=2.01, verdict="bug")
    found = beside(before, now)
    assert [row["tap"] for row in moved_rows({"regression": found})] == ["text.layer.9.mid", TAP]
    assert found["taps"][0]["verdict_before"] == "match"
    assert found["worse"] == 2


@pytest.mark.parametrize(
    ("was", "is_now", "what"),
    [
        ("match", "undetermined", "worse"),
        ("undetermined", "bug", "worse"),
        ("bug", "match", "better"),
        ("bug", "undetermined", "changed"),
        ("undetermined", "match", "better"),
    ],
)
def test_which_way_a_verdict_went(was, is_now, what):
    before, now = moved(0.0)
    at(before, TAP)["verdict"], at(now, TAP)["verdict"] = was, is_now
    assert [row["what"] for row in moved_rows({"regression": beside(before, now)})] == [what]


def test_taps_that_came_or_went_are_told():
    before, now = moved(0.0)
    before["taps"].remove(at(before, "text.layer.2.mid"))
    now["taps"].remove(at(now, "text.layer.3.mid"))
    found = beside(before, now)
    assert (found["came"], found["went"]) == (1, 1)
    rows = {row["what"]: row for row in moved_rows({"regression": found})}
    assert (rows["came"]["tap"], rows["came"]["before"]) == ("text.layer.2.mid", None)
    assert (rows["went"]["tap"], rows["went"]["now"]) == ("text.layer.3.mid", None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["weights"].update(judged_against="1b"), "weights: 270m before, 1b now"),
        (lambda r: r["weights"].update(held_as="bfloat16"), "weights held as: file before, bfloat16 now"),
        (lambda r: r["weights"].update(adapter={"name": "a", "merged": False}), "adapter: none before, a now"),
        (lambda r: r["policy"].update(judged_as="tf32"), "judged as: float32 before, tf32 now"),
        (lambda r: r["passes"].append({"ids": 1, "cached": 40}), "prompt: 1 pass before, 2 passes now"),
        (
            lambda r: r["passes"][0].update(ids=41),
            "pass 0 of 40 tokens after 0 before, pass 0 of 41 tokens after 0 now",
        ),
    ],
)
def test_what_is_of_something_else_is_not_compared(change, words):
    before, now = moved(50.0)
    change(now)
    found = beside(before, now)
    assert not found["comparable"]
    assert found["taps"] == []
    assert words in in_words(found)
    assert found["verdict"] == {"before": "match", "now": "match"}


def test_prompts_of_one_length_differ_by_their_digest_where_both_have_one():
    before, now = moved(0.0)
    now["passes"][0]["prompt"] = "2222"
    assert beside(before, now)["comparable"]
    before["passes"][0]["prompt"] = "1111"
    assert "digest 1111 before" in beside(before, now)["why"][0]


def test_the_same_weights_in_another_folder_are_the_same():
    before, now = moved(0.0)
    before["weights"]["judged_against"], now["weights"]["judged_against"] = "/a/gemma-3-1b", "C:\\b\\gemma-3-1b"
    assert beside(before, now)["comparable"]
    now["weights"]["judged_against"] = "elsewhere"
    assert not beside(before, now)["comparable"]
    before["weights"]["sha256"] = now["weights"]["sha256"] = {"x": "0" * 64}
    assert beside(before, now)["comparable"]


def test_another_version_and_other_mistakes_are_told_and_compared():
    before, now = example()[0], rope_bug()[0]
    now["producer"] = {"name": "transformers", "version": "5.24.0"}
    found = beside(before, now)
    producer = "producer: transformers 5.23.0 before, transformers 5.24.0 now"
    assert found["changed_beside"] == [producer, "mistake that came: rope_interleaved"]
    assert set_beside(now, before, "last")["changed_beside"][1] == "mistake that went: rope_interleaved"


def test_values_that_have_to_be_equal_have_a_word_in_json():
    before, now = example()[0], example()[0]
    wrong(now, "text.layer.11.attn.visible", INF, "2 of 1600 differ")
    at(now, TAP).update(local_ratio=float("nan"), verdict="bug")
    now["regression"] = beside(before, now)
    document = json.loads(json.dumps(finite(now)))
    rows = {row["tap"]: row for row in checked(document)["regression"]["taps"]}
    for tap in ("text.layer.11.attn.visible", TAP):
        assert (rows[tap]["now"], rows[tap]["moved"], rows[tap]["what"]) == ("differs", "differs", "worse")


def test_what_has_no_local_error_is_compared_from_the_prompt_on():
    before, now = moved(0.0)
    for report, ratio in ((before, 1.0), (now, 9.0)):
        at(report, TAP).update(local_ratio=None, inherited_ratio=ratio)
    [row] = moved_rows({"regression": beside(before, now)})
    assert (row["before"], row["now"], row["what"]) == (1.0, 9.0, "worse")


def test_every_report_tells_what_moved():
    before, now = example()[0], rope_bug()[0]
    now["regression"] = beside(before, now)
    text = render_text(now)
    [line] = [one for one in text.splitlines() if one.strip().startswith(WRONG) and "->" in one]
    assert "41.2" in line
    assert text.splitlines()[-1].endswith("beside the baseline last: 1 tap worse")
    pytest.importorskip("plotly")
    page = render_html(now, None)
    assert 'id="regression"' in page
    assert "match → bug" in page
    assert 'id="regression"' not in render_html(before, None)


def test_a_baseline_that_is_not_there_is_a_report_too():
    report, _ = example()
    report["regression"] = refused("p1", "the baseline has no dump of this name", report)
    checked(json.loads(json.dumps(report)))
    assert "not comparable with the baseline p1: the baseline has no dump of this name" in render_text(report)
