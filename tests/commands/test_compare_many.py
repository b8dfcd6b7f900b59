"""`compare` of many dumps: each by itself, one that is broken costs the others nothing, one document."""

import json
import os
import shutil
from importlib.util import find_spec
from xml.etree import ElementTree

import pytest
from support.refusing import refusal
from support.report_examples import example, rope_bug

from ref.cli import main
from ref.commands import compare
from ref.errors import BadInput
from ref.golden_files.files import check_schema, golden_root

pytestmark = pytest.mark.skipif(
    not (find_spec("plotly") and find_spec("junitparser")), reason="needs plotly and junitparser"
)
TINY, TINY_BUG = (golden_root() / "dumps" / name for name in ("tiny", "tiny-bug"))


def judge(args, dump):
    """Answer at once, by the name of the dump."""
    if "broken" in dump:
        raise BadInput(f"{dump}: dump: wanted one, got\x1b[31m none")
    if "crash" in dump:
        raise ZeroDivisionError("a fault")
    if "open" in dump:
        report, profiles = example(layers=2)
        report["taps"][3].update(verdict="undetermined", why="its inputs are not finite")
        return report | {"verdict": "undetermined"}, profiles
    return rope_bug(layers=4) if "bug" in dump else example(layers=4)


@pytest.fixture
def judged(monkeypatch):
    monkeypatch.setattr(compare, "_judge", judge)


@pytest.mark.parametrize(
    ("dumps", "code"),
    [
        (["a", "b", "c"], 0),
        (["a", "open", "c"], 3),
        (["a", "open", "bug"], 1),
        (["broken", "open", "bug"], 2),
        (["broken", "crash", "bug"], 4),
        (["broken", "broken", "broken"], 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst(capsys, judged, dumps, code):
    assert main(["compare", *dumps]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split("#")[0] for line in lines[:3]] == dumps


def test_a_line_says_what_each_is_and_the_last_counts(capsys, judged):
    assert main(["compare", "x/good", "x/bug", "x/broken", "x/crash"]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("good: match: ")
    assert lines[1].startswith("bug: bug, first at text.layer.3.attn.q_rope (pass 0), 41.2 floors: RoPE pairs")
    assert lines[2] == r"broken: refused: x/broken: dump: wanted one, got\x1b[31m none"
    assert lines[3] == "crash: failed: ZeroDivisionError: a fault"
    assert lines[-2:] == ["rope_interleaved: in 1 dump: bug", "4 dumps: 1 failed, 1 refused, 1 bug, 1 match"]


def test_one_and_two_dumps_are_what_they_were(capsys, judged):
    assert main(["compare", "bug", "b"]) == 1
    assert "first: floors" in capsys.readouterr().out
    assert main(["compare", "bug"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict: bug")
    assert main(["compare", "bug", "b", "--each"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 dumps: 1 bug, 1 match"
    assert main(["compare", "b", "--each", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["dumps"]] == ["b"]


@pytest.mark.parametrize("dumps", [["a", "bug", "broken", "crash"], ["broken", "broken", "broken"]])
def test_json_is_one_document_with_a_schema(capsys, judged, dumps):
    main(["compare", *dumps, "--json"])
    document = json.loads(capsys.readouterr().out)
    check_schema(document, "reports")
    assert [one["name"].split("#")[0] for one in document["dumps"]] == dumps
    assert document["summary"]["refused"] == sum(one == "broken" for one in dumps)


def test_all_prints_every_table(capsys, judged):
    main(["compare", "a", "b", "bug", "--all"])
    out = capsys.readouterr().out
    assert out.count("floors (own inputs)") == 3
    assert out.index("a:\n") < out.index("b:\n") < out.index("bug:\n")


def test_an_index_with_pages_beside_it_and_a_suite_each(capsys, judged, tmp_path):
    index, xml = tmp_path / "out" / "index.html", tmp_path / "report.xml"
    index.parent.mkdir()
    dumps = ["r/p 1", "r/sub/bug", "r/broken", "r/P_1"]
    assert main(["compare", *dumps, "--html", str(index), "--junit", str(xml)]) == 2
    pages = sorted(path.name for path in (index.parent / "index_pages").iterdir())
    assert pages == ["P_1-2.html", "p_1.html", "sub_bug.html"]
    assert "index_pages/sub_bug.html" in index.read_text()
    suites = ElementTree.parse(xml).getroot()
    assert [one.attrib["name"].removeprefix("gemma3-ref compare ") for one in suites] == [
        "p 1",
        "sub/bug",
        "broken",
        "P_1",
    ]
    assert sorted(path.name for path in tmp_path.rglob("*") if ".part" in path.name) == []


def test_pages_of_bad_dumps_only(judged, tmp_path):
    index = tmp_path / "index.html"
    main(["compare", "a", "bug", "open", "--html", str(index), "--pages", "bad"])
    assert sorted(path.name for path in (tmp_path / "index_pages").iterdir()) == ["bug.html", "open.html"]
    clean = tmp_path / "clean.html"
    main(["compare", "a", "b", "c", "--html", str(clean), "--pages", "bad"])
    assert not (tmp_path / "clean_pages").exists()


def test_a_report_that_cannot_be_written_loses_nothing_else(capsys, judged, tmp_path, monkeypatch):
    from ref.commands import many_outputs

    def full(report, profiles, path):
        raise BadInput(f"{path.name}: output file: wanted a place that can be written, got No space left on device")

    monkeypatch.setattr(many_outputs, "write_html", full)
    index, xml = tmp_path / "index.html", tmp_path / "report.xml"
    assert main(["compare", "a", "bug", "c", "--html", str(index), "--junit", str(xml)]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "3 dumps: 1 bug, 2 match"
    assert err.splitlines() == [
        "gemma3-ref compare: a.html: output file: wanted a place that can be written, got No space left on device"
    ]
    assert (index.exists(), xml.exists()) == (True, True)


def test_a_file_in_the_place_of_the_folder_of_pages_is_refused_before(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "_judge", lambda *_: pytest.fail("judged before the outputs were checked"))
    (tmp_path / "index_pages").write_text("")
    line = refusal(capsys, "compare", "a", "b", "c", "--html", str(tmp_path / "index.html"))
    assert "index_pages: folder of pages: wanted a place that can be written" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--next", "dir"], "--next: wanted one dump, got 3 that are judged each by itself"),
        (["--resume", "dir"], "--resume: wanted one dump, got 3"),
        (["--text", "file"], "--text: wanted one dump, got 3"),
        (["--noise", "nan"], "--noise: wanted a number of floors, got nan"),
        (["--noise", "-1"], "--noise: wanted a number of floors, got -1.0"),
        (["--fail-on-regression"], "--fail-on-regression: wanted --baseline OLD, got none"),
    ],
)
def test_flags_that_do_not_go_with_many_are_refused(capsys, judged, flags, message):
    assert message in refusal(capsys, "compare", "a", "b", "c", *flags)


def test_a_reader_who_leaves_early_still_gets_the_reports(judged, tmp_path, monkeypatch):
    def leave(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("tqdm.tqdm.write", leave)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr("sys.stdout.fileno", lambda: 1, raising=False)
    args = compare_arguments("a", "bug", "c", "--html", str(tmp_path / "index.html"))
    assert compare.run(args) == 1
    assert (tmp_path / "index.html").exists()
    with pytest.raises(BrokenPipeError):
        compare.run(compare_arguments("a", "bug", "c"))


def compare_arguments(*words):
    from ref.cli import build_parser

    return build_parser().parse_args(["compare", *words])


def test_how_far_it_is_goes_to_a_log_now_and_then(capsys, judged, monkeypatch):
    from ref.commands import pace

    monkeypatch.setattr(pace, "EVERY", 0)
    main(["compare", "a", "b", "c"])
    said = capsys.readouterr().err.splitlines()
    assert [line.split(", about")[0] for line in said] == ["compare: 1 of 3 dumps", "compare: 2 of 3 dumps"]


def test_a_folder_of_real_dumps_loads_weights_once(capsys, tmp_path, monkeypatch):
    import ref.weights.resolve as resolve

    calls = []
    real = resolve.load
    monkeypatch.setattr(resolve, "load", lambda *given: calls.append(given) or real(*given))
    for name, dump in (("one", TINY), ("sub/two", TINY_BUG), ("sub/three", TINY)):
        shutil.copytree(dump, tmp_path / name)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "dump.json").write_text("{}")
    assert main(["compare", str(tmp_path), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    check_schema(document, "reports")
    verdicts = {one["name"]: one["verdict"] for one in document["dumps"]}
    assert verdicts == {"damaged": "refused", "one": "match", "sub/two": "bug", "sub/three": "match"}
    assert calls == [("tiny", "file", None)]
    assert {one["weights"]["from"] for one in document["dumps"] if "weights" in one} == {"the dump"}


def test_a_saved_document_is_drawn_again(capsys, judged, tmp_path):
    saved, index, xml = tmp_path / "all.json", tmp_path / "index.html", tmp_path / "report.xml"
    main(["compare", "a", "bug", "broken"])
    told = capsys.readouterr().out
    main(["compare", "a", "bug", "broken", "--json"])
    saved.write_text(capsys.readouterr().out)
    assert main(["report", str(saved)]) == 0
    assert capsys.readouterr().out == told
    assert main(["report", str(saved), "--html", str(index), "--junit", str(xml)]) == 0
    assert sorted(path.name for path in (tmp_path / "index_pages").iterdir()) == ["a.html", "bug.html"]
    assert len(ElementTree.parse(xml).getroot()) == 3
