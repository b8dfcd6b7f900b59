"""`compare --baseline`: a dump, a saved report or a folder of either, found by name; what moved is told everywhere."""

import json
from importlib.util import find_spec

import pytest
from support.refusing import refusal
from support.report_examples import at, example, rope_bug

from ref.cli import main
from ref.commands import compare
from ref.commands.baseline import partners_of
from ref.commands.shared import finite
from ref.errors import BadInput
from ref.golden_files.files import check_schema, golden_root

needs_reports = pytest.mark.skipif(not find_spec("plotly"), reason="needs plotly")
TAP = "text.layer.1.ffn.out"
TINY, TINY_BUG = (str(golden_root() / "dumps" / name) for name in ("tiny", "tiny-bug"))


def report_of(dump):
    """A report by the name of its dump: how many floors one tap is off stands in it."""
    if "broken" in dump:
        raise BadInput("a dump: wanted one, got none")
    report, profiles = rope_bug(layers=4) if "bug" in dump else example(layers=4)
    at(report, TAP)["local_ratio"] = 1.9 if "worse" in dump else 0.4
    return report, profiles


@pytest.fixture
def judged(monkeypatch):
    monkeypatch.setattr(compare, "_judge", lambda args, dump: report_of(dump))


@pytest.fixture
def saved(tmp_path):
    """Save reports under names; return the folder."""
    folder = tmp_path / "last"
    folder.mkdir()
    for name in ("p1", "p2", "p3", "en-p4"):
        (folder / f"{name}.json").write_text(json.dumps(finite(report_of(name)[0]), indent=1))
    return folder


def run(capsys, *words):
    code = main(["compare", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_one_dump_beside_one_report_whatever_they_are_called(capsys, judged, saved):
    (saved / "p1.json").rename(saved / "p1.old")  # whatever its file is called
    code, report = run(capsys, "now-worse", "--baseline", saved / "p1.old")
    check_schema(report, "report")
    assert (code, report["regression"]["worse"], report["regression"]["baseline"]) == (0, 1, "p1.old")
    assert report["regression"]["taps"][0]["tap"] == TAP


def test_who_goes_with_whom():
    assert partners_of(["a"], ["b"]) == {"a": "b"}
    assert partners_of(["a", "b"], ["b", "c"]) == {"b": "b"}
    assert partners_of(["now/en/p1", "now/p2", "x"], ["en/p1", "last/now/p2"]) == {
        "now/en/p1": "en/p1",
        "now/p2": "last/now/p2",
    }
    assert partners_of(["en/p1", "de/p1"], ["p1"]) == {}
    assert partners_of(["p1", "q"], ["en/p1", "de/p1"]) == {}
    assert partners_of(["xp1", "q"], ["p1"]) == {}


def test_a_folder_of_reports_is_matched_by_name(capsys, judged, saved):
    code, document = run(capsys, "today/p1", "today/p2", "today/p5", "--baseline", saved)
    check_schema(document, "reports")
    found = {one["name"]: one["regression"] for one in document["dumps"]}
    assert (code, found["p1"]["same"]) == (0, len(document["dumps"][0]["taps"]))
    assert found["p5"]["why"] == ["the baseline has no dump of this name"]
    assert document["summary"]["regression"] == {"worse": [], "better": [], "not_comparable": ["p5"]}


def test_a_folder_of_dumps_is_judged_again_each_with_its_partner(capsys, judged, tmp_path):
    for name in ("last/p1-worse", "last/p2", "now/p1-worse", "now/p2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dump.json").write_text("")
    code, document = run(capsys, tmp_path / "now", "--baseline", tmp_path / "last")
    found = {one["name"]: one["regression"]["same"] for one in document["dumps"]}
    assert (code, found) == (0, dict.fromkeys(["p1-worse", "p2"], len(document["dumps"][0]["taps"])))


def test_what_many_dumps_printed_is_a_baseline(capsys, judged, tmp_path):
    _, document = run(capsys, "x/p1", "x/p2-worse", "x/broken")
    old = tmp_path / "old.json"
    old.write_text(json.dumps(document))
    code, document = run(capsys, "y/p1", "y/p2-worse", "y/p3", "--baseline", old)
    found = {one["name"]: one["regression"]["comparable"] for one in document["dumps"]}
    assert (code, found) == (0, {"p1": True, "p2-worse": True, "p3": False})


def test_a_regression_is_no_bug_but_fails_where_that_is_asked_for(capsys, judged, saved):
    args = ["compare", "x-worse", "--baseline", str(saved / "p1.json")]
    assert main(args) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("beside the baseline p1: 1 tap worse")
    assert main([*args, "--fail-on-regression"]) == 5
    assert main(["compare", "bug", *args[2:], "--fail-on-regression"]) == 1
    assert main(["compare", "p1", *args[2:], "--fail-on-regression"]) == 0
    (saved / "p4-worse.json").write_text((saved / "p1.json").read_text())
    many = ["compare", "a/p1", "a/p2", "a/p4-worse", "--baseline", str(saved)]
    assert main(many) == 0
    assert main([*many, "--fail-on-regression"]) == 5


def test_a_baseline_that_is_damaged_is_told_and_costs_no_other(capsys, judged, saved):
    (saved / "p2.json").write_text((saved / "p1.json").read_text()[:-300])
    code, document = run(capsys, "a/p1", "a/p2", "a/p3", "--baseline", saved)
    found = {one["name"]: one["regression"] for one in document["dumps"]}
    assert (code, [one["comparable"] for one in found.values()]) == (2, [True, False, True])
    assert "p2.json: " in found["p2"]["why"][0]


def test_a_single_dump_is_reported_beside_a_damaged_baseline(capsys, judged, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dump.json").write_text("{}")
    assert main(["compare", "a", "--baseline", str(tmp_path / "broken")]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("verdict: match")
    assert err.splitlines() == ["gemma3-ref compare: a dump: wanted one, got none"]


@pytest.mark.parametrize("what", ["nothing", "empty", "other names", "no report"])
def test_a_baseline_that_cannot_serve_is_refused_before_anything_is_judged(capsys, monkeypatch, saved, tmp_path, what):
    monkeypatch.setattr(compare, "_judge", lambda *_: pytest.fail("judged before the baseline was read"))
    places = {
        "nothing": tmp_path / "no",
        "empty": tmp_path / "empty",
        "other names": saved,
        "no report": tmp_path / "x.json",
    }
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.json").write_text('{"format": "gemma3-ref report", "format_version": 9}')
    dumps = ["a/q1"] if what in ("nothing", "empty", "no report") else ["a/q1", "a/q2", "a/q3"]
    line = refusal(capsys, "compare", *dumps, "--baseline", str(places[what]))
    assert str(places[what]) in line
    assert "wanted" in line


def test_dumps_are_judged_again_as_a_baseline(capsys):
    code, report = run(capsys, TINY_BUG, "--baseline", TINY)
    check_schema(report, "report")
    found = report["regression"]
    assert (code, found["comparable"], found["verdict"]) == (1, True, {"before": "match", "now": "bug"})
    assert found["taps"][0]["tap"] == report["first"]["tap"]
    assert found["changed_beside"] == ["mistake that came: window_plus_one"]
    code, report = run(capsys, TINY, "--baseline", TINY)
    assert (code, report["regression"]["same"]) == (0, len(report["taps"]))
    assert all(row["moved"] in (0, None) for row in report["regression"]["taps"])


@needs_reports
def test_a_saved_report_is_drawn_with_what_moved(capsys, judged, saved, tmp_path):
    main(["compare", "x-worse", "--baseline", str(saved / "p1.json"), "--json"])
    new = tmp_path / "new.json"
    new.write_text(capsys.readouterr().out)
    assert main(["report", str(new)]) == 0
    assert "beside the baseline p1: 1 tap worse" in capsys.readouterr().out
    assert main(["report", str(new), "--html", str(tmp_path / "page.html")]) == 0
    assert 'id="regression"' in (tmp_path / "page.html").read_text()
