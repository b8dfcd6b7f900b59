"""The table for a terminal: groups, what is bad below them, and the verdict as the last line."""

import re

import pytest
from support.report_causes import PROOF, cause, unexplained
from support.report_examples import (
    HIDDEN,
    HOSTILE,
    INF,
    STRANGE,
    TIED,
    WRONG,
    at,
    everything_wrong,
    example,
    rope_bug,
    wrong,
)

from ref.measure.floor import SMALL
from ref.report.figures import coefficient, floors, worst_of
from ref.report.text import render_text
from ref.report.words import printable


def line_of(text, start):
    [line] = [line for line in text.splitlines() if line.split()[:1] == [start]]
    return line.split()


def test_a_match_is_one_line_a_group_with_the_worst_layer_of_each_error():
    report, _ = example(layers=5)
    at(report, "text.layer.3.attn.v").update(local=3e-7, local_floor=2e-7, local_ratio=1.5)
    at(report, "text.layer.1.attn.v").update(inherited=5e-7, floor=2.7e-7, inherited_ratio=1.85)
    text = render_text(report)
    words = ["text.layer.*.attn.v", "3.0e-07", "1.50", "1.85", "match"]
    assert line_of(text, "text.layer.*.attn.v") == [*words, "layer", "3", "pass", "0"]
    assert "text.layer.3.attn.v" not in text[: text.index("verdict: ")]
    assert line_of(text, "text.layer.*.in")[1:3] == ["0.0e+00", "0"]
    groups = [line.split()[0] for line in text.splitlines()[1:] if line.startswith("  text.")]
    assert groups == list(dict.fromkeys(row["group"] for row in report["taps"]))
    worst = max(report["taps"], key=lambda row: row["local_ratio"])
    assert text.splitlines()[-1] == f"verdict: match: 118 taps of 1 pass, at most 1.50 floors ({worst['tap']})"


def test_the_first_divergence_and_its_name_are_the_last_line():
    text = render_text(rope_bug()[0])
    where = "first at text.layer.3.attn.q_rope (pass 0), 41.2 floors"
    what = "RoPE pairs channels 2j and 2j + 1 (rope_interleaved)"
    assert text.splitlines()[-1] == f"verdict: bug, {where}: {what}; this explains the logits"
    assert line_of(text, "text.layer.*.attn.q_rope")[4:] == ["bug", "1/18", "layer", "3", "pass", "0"]
    assert line_of(text, WRONG)[2] == "41.2"
    assert line_of(text, "rope_interleaved") == ["rope_interleaved", "0.9998", "+-", "0.0003", "0.83", "named"]
    assert "cleared: 3: rope_missing, rope_exponent_half, rope_factor_inverse" in text
    assert text.count("RoPE pairs channels") == 2  # as the cause, and in the last line


def test_no_two_columns_have_one_name():
    for width in (80, 120):
        head = re.split(r"  +| (?=floors)", render_text(rope_bug()[0], width).splitlines()[0].strip())
        assert len(set(head)) == len(head) >= 4
    head = render_text(rope_bug()[0]).splitlines()[0]
    assert [head.count(name) for name in ("error", "floors (own inputs)", "floors (from prompt)")] == [1, 1, 1]


def test_where_a_mistake_was_seen_is_printed():
    report, _ = rope_bug()
    report["diagnosis"][1]["seen_in"] = []
    text = render_text(report)
    assert "\n      seen: in owner/port#7\n" in text
    assert "The sign of the sine is wrong. Plausible, not seen yet." in text.replace("\n      ", " ")


def test_everything_asks_for_a_line_of_every_tap():
    report, _ = rope_bug(layers=7)
    text = render_text(report, everything=True)
    for row in report["taps"]:
        if row["layer"] is not None:
            assert line_of(text, row["tap"])[4] == row["verdict"]


def test_the_order_of_the_parts():
    text = render_text(everything_wrong()[0])
    parts = ["not compared", "not exercised", "causes, the one", "proof", "in another basis", "tried: ", "not tried: "]
    parts += ["diagnosis of", "simple changes", "what would decide", "not finite"]
    places = [text.index(f"\n{part}") for part in [*parts, "verdict: "]]
    assert places == sorted(places)
    assert text.splitlines()[-1].startswith("verdict: bug, first at vision.layer.4.ffn.act (pass 0), 5.50 floors")


def test_many_bad_layers_are_counted_not_listed_unless_asked_for():
    report, _ = everything_wrong()
    text = render_text(report)
    assert "18/54" in text
    assert "    and 13 more" in text
    assert "text.layer.5.attn.k_rope" not in text
    assert "text.layer.5.attn.k_rope" in render_text(report, everything=True)


def test_ties_are_said_to_be_ties():
    report, _ = rope_bug()
    report |= {"diagnosis": TIED, "decide": "rope_factor_missing shows with: a global layer"}
    report |= {"causes": [cause(TIED[0], WRONG, tied_with=[TIED[1]["mutant"]])]}
    text = render_text(report)
    assert "this input cannot tell the 2 tied mistakes apart" in text
    assert "what would decide: rope_factor_missing shows with: a global layer" in text
    one_of = "one of rope_factor_missing, rope_local_base_everywhere: this input cannot tell which"
    assert f"global layers' angles are not divided by 8 ({one_of})" in text.splitlines()[-1]
    assert "\n      as well: rope_local_base_everywhere\n" in text


def test_a_mistake_below_the_floor_and_one_that_nobody_knows():
    report, _ = example()
    wrong(report, ratio=1.1, why=f"{SMALL}: gelu_erf")
    report |= {"diagnosis": HIDDEN, "causes": [cause(HIDDEN[0], WRONG)], "proof": PROOF}
    last = render_text(report).splitlines()[-1]
    assert last.endswith(f"(pass 0), {SMALL}: RoPE pairs channels 2j and 2j + 1 (gelu_erf, c = 1.00 +- 0.02)")
    report, _ = example()
    wrong(report)
    assert render_text(report).endswith("41.2 floors: no mistake that is known here")
    assert render_text(report | {"causes": [unexplained(WRONG)]}).endswith("floors: no mistake that is known here")


def test_undetermined_and_nothing_compared():
    report, _ = example()
    at(report, "text.layer.2.mid").update(verdict="undetermined", why="an input is not in the dump", local_ratio=None)
    last = render_text(report | {"verdict": "undetermined"}).splitlines()[-1]
    where = "text.layer.2.mid (pass 0): an input is not in the dump"
    assert last == f"verdict: undetermined: 1 of 417, first {where}"
    empty = report | {"verdict": "undetermined", "taps": []}
    assert render_text(empty).endswith("verdict: undetermined: nothing was compared")


@pytest.mark.parametrize("width", [None, 80, 100, 160])
def test_lines_fit_the_width_but_for_the_verdict(width):
    for report in (example()[0], rope_bug()[0], everything_wrong()[0]):
        lines = render_text(report, width).splitlines()
        assert max(map(len, lines[:-1])) <= (width or 120)


def test_names_cannot_write_to_the_terminal():
    text = render_text(everything_wrong()[0])
    assert all(c.isprintable() or c == "\n" for c in text)
    assert r"a\x1b[31m\x00\x07\u202eb\ud800\x85\n\ufffe" in text
    assert HOSTILE[:60] in text
    assert printable({"a": [STRANGE, ("b" * 400, 3, None)]})["a"][1] == ["b" * 299 + "…", 3, None]


def test_numbers_are_written_to_the_digits_they_have():
    values = [None, 0.0, 0.001, 0.83, 9.994, 41.23, 999.4, 1234.0, INF, float("nan")]
    assert [floors(v) for v in values] == [
        "-",
        "0",
        "<0.01",
        "0.83",
        "9.99",
        "41.2",
        "999",
        "1.2e+03",
        "differs",
        "nan",
    ]
    rows = [(0.99981, 0.00031), (1.0, 0.0), (0.944, 0.0286), (310.5, 12.0), (None, None), (-0.013, 0.0093), (1e9, 1e8)]
    rows += [(0.99999999, 1e-9), (1.0000012, 4e-7), (0.999993, 8e-7)]
    close = ["1.000000", "1.000001", "0.999993 +- 0.000001"]
    told = [coefficient({"coefficient": c, "stderr": s}) for c, s in rows]
    assert told == [
        "0.9998 +- 0.0003",
        "1",
        "0.94 +- 0.03",
        "310 +- 12",
        "-",
        "-0.013 +- 0.009",
        "1e+09 +- 1e+08",
        *close,
    ]


def test_the_worst_of_a_group_is_a_number_that_is_none_before_one_that_is_not_measured():
    rows = [{"local_ratio": value} for value in (None, 1.0, float("nan"), INF)]
    assert worst_of(rows, "local_ratio") is rows[2]
    assert worst_of(rows[:2], "local_ratio") is rows[1]
    assert worst_of(rows[:1], "local_ratio") is rows[0]


@pytest.mark.parametrize(
    ("name", "version", "line"),
    [
        ("not said", "not said", "producer: not said"),
        ("mlx", "not said", "producer: mlx"),
        ("not said", "5.23", "producer: 5.23"),
        ("mlx", "0.32", "producer: mlx 0.32"),
    ],
)
def test_what_a_producer_does_not_say_is_said_once(name, version, line):
    report, _ = example()
    report["producer"] = {"name": name, "version": version}
    assert line in render_text(report).splitlines()
