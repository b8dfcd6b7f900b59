"""A saved report is read back and drawn again; what is none of ours is refused in one line."""

import json
from importlib.util import find_spec

import pytest
from support.refusing import refusal
from support.report_examples import INF, WRONG, at, everything_wrong, example, rope_bug, wrong

from ref.cli import main
from ref.commands.shared import finite
from ref.errors import BadInput
from ref.report.read import read_report
from ref.report.text import render_text

TRACE = {"format": "gemma3-ref report", "format_version": 1, "kind": "trace", "passes": [], "tensors": 0, "bytes": 0}
RULE = TRACE | {"kind": "check-rule", "rule": "crops", "verdict": "bug", "cases": 9, "wrong": 2}
RULE |= {"case": {"width": 5}, "expected": [], "got": [[0, 0, 1, 1]], "problem": None, "mutant": "crops_one_more"}
RULE |= {"diagnosis": [{"mutant": "crops_one_more", "what": "one crop too many", "seen_in": ["owner/port#1"]}]}
RULE = {key: value for key, value in RULE.items() if key not in ("passes", "tensors", "bytes")}


@pytest.fixture
def save(tmp_path):
    """Save a report as --json prints it."""

    def saved(report, name="report.json"):
        path = tmp_path / name
        path.write_text(json.dumps(finite(report), allow_nan=False))
        return path

    return saved


def seen_wrong():
    report, profiles = example()
    wrong(report, "text.layer.3.attn.visible", INF, "2 of 1600 differ, first at token 17")
    at(report, "text.layer.5.mid").update(local=INF, local_ratio=INF, verdict="bug")
    return report, profiles


@pytest.mark.parametrize("make", [example, rope_bug, seen_wrong])
@pytest.mark.parametrize("flags", [[], ["--all"]])
def test_the_text_is_that_of_the_first_time(capsys, save, make, flags):
    report, _ = make()
    path = save(report)
    assert main(["report", str(path), *flags]) == 0
    assert capsys.readouterr().out == render_text(report, everything=bool(flags)) + "\n"


def test_two_dumps_are_drawn_again(capsys, save):
    path = save(rope_bug()[0] | {"other": example()[0]})
    assert main(["report", str(path)]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.endswith("dump:")] == ["first dump:", "second dump:"]
    assert "bug | match" in next(line for line in out.splitlines() if line.startswith(WRONG))


@pytest.mark.skipif(not (find_spec("plotly") and find_spec("junitparser")), reason="needs plotly and junitparser")
def test_pages_are_drawn_without_what_no_report_holds(capsys, save, tmp_path):
    path, page, xml = save(rope_bug()[0]), tmp_path / "page.html", tmp_path / "report.xml"
    assert main(["report", str(path), "--html", str(page), "--junit", str(xml)]) == 0
    assert capsys.readouterr().out == ""
    assert '"saved":true' in page.read_text()
    assert "A saved report holds no errors of tokens and channels" in page.read_text()
    assert xml.read_text().count("<failure") == 1


def test_other_kinds_are_drawn_as_text_only(capsys, save, tmp_path):
    assert main(["report", str(save(TRACE))]) == 0
    assert capsys.readouterr().out == "trace: 0 passes, 0 tensors, 0.0 MB\n"
    path = save(RULE)
    assert main(["report", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("crops: wrong on 2 of 9 inputs")
    assert out.endswith("as if: crops_one_more: one crop too many.\n  Seen in owner/port#1.\n")
    assert main(["report", str(save(RULE | {"verdict": "match", "diagnosis": []}))]) == 0
    assert capsys.readouterr().out == "crops: all 9 cases are right\n"
    said = refusal(capsys, "report", str(path), "--html", str(tmp_path / "page.html"))
    assert "--html: wanted a report of compare, got one of check-rule" in said


def test_verify_is_drawn_again(capsys, tmp_path):
    assert main(["verify", "--weights", "tiny", "--case", "padded", "--json"]) == 0
    path = tmp_path / "report.json"
    path.write_text(capsys.readouterr().out)
    assert main(["verify", "--weights", "tiny", "--case", "padded"]) == 0
    first = capsys.readouterr().out
    assert main(["report", str(path)]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "report: wanted a JSON object from its first byte on"),
        ("verdict: match", "report: wanted a JSON object from its first byte on"),
        ("{", "report: wanted JSON in UTF-8"),
        ("[]", "report: wanted a JSON object"),
        ("{}", "wanted a report, as gemma3-ref compare --json prints it, got"),
        ('{"format": "gemma3-ref dump", "format_version": 1}', "gemma3-ref dump"),
        ('{"format": "gemma3-ref report", "format_version": 2}', "format_version of the report: wanted 1, got 2"),
        ('{"format": "gemma3-ref report", "format_version": true}', "format_version of the report: wanted 1, got True"),
        ('{"format": "gemma3-ref report", "format_version": 1}', "what report.schema.json says"),
        (json.dumps(TRACE | {"kind": "guess"}), "kind: wanted what report.schema.json says"),
        (json.dumps(TRACE | {"tensors": -1}), "tensors: wanted what report.schema.json says"),
        (json.dumps(TRACE | {"more": 1}), "'more' was unexpected"),
        ('{"format": NaN}', "wanted finite numbers"),
        ('{"format": "a", "format": "b"}', "every key once"),
        ('{"format": ' + "[" * 100_000, "wanted JSON in UTF-8"),
    ],
)
def test_what_is_no_report_of_ours_is_one_line(capsys, tmp_path, content, says):
    path = tmp_path / "r\x1b.json"
    path.write_text(content)
    assert says in refusal(capsys, "report", str(path))
    with pytest.raises(BadInput):
        read_report(path)


def test_a_file_that_is_not_there_or_would_be_written_over(capsys, tmp_path, save):
    assert "No such file" in refusal(capsys, "report", str(tmp_path / "no.json"))
    assert "a folder" in refusal(capsys, "report", str(tmp_path))
    path = save(example()[0])
    assert "another file than what is read" in refusal(capsys, "report", str(path), "--junit", str(path))
    both = ["--html", str(tmp_path / "x"), "--junit", str(tmp_path / "x")]
    assert "another file than --html" in refusal(capsys, "report", str(path), *both)


def test_infinity_comes_back_and_what_was_not_measured_does_not(save):
    report, _ = seen_wrong()
    at(report, WRONG).update(dict.fromkeys(("local", "local_floor", "local_ratio")))
    again = read_report(save(report))
    assert at(again, "text.layer.3.attn.visible")["local_ratio"] == INF
    assert at(again, "text.layer.5.mid")["local"] == INF
    assert at(again, WRONG)["local_ratio"] is None


def test_hostile_texts_stay_texts(capsys, save):
    report, _ = everything_wrong()
    report["producer"].pop("more")
    path = save(report | {"decide": "\x1b[31m"})
    assert main(["report", str(path)]) == 0
    assert all(c.isprintable() or c == "\n" for c in capsys.readouterr().out)
