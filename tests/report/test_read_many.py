"""Reports of one dump or of many are read back one after the other, however the JSON is laid out."""

import json
import math

import pytest
from support.report_examples import example, rope_bug, wrong

from ref.commands.shared import finite
from ref.errors import BadInput
from ref.golden_files.files import check_schema
from ref.report import read_many
from ref.report.many import row_of, row_of_refused, summary_of
from ref.report.read_many import read_reports


def document():
    bug, match = rope_bug(layers=4)[0], example(layers=4, seed=5)[0]
    wrong(bug, "text.layer.1.attn.visible", math.inf, "2 of 1600 differ")
    rows = [row_of(bug, "a"), row_of_refused("b", "no dump", "refused"), row_of(match, "c")]
    items = [{"name": "a"} | bug, {"name": "b", "verdict": "refused", "why": "no dump"}, {"name": "c"} | match]
    whole = {"schema_version": 1, "command": "compare", "dumps": items, "summary": summary_of(rows, 1.5)}
    return finite(whole)


LAYOUTS = [{}, {"indent": 3, "sort_keys": True}, {"separators": (",", ":")}]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [1, 7, 2**20])
def test_many_reports_come_one_after_the_other(tmp_path, monkeypatch, layout, piece):
    whole = document()
    check_schema(whole, "reports")
    path = tmp_path / "all.json"
    path.write_text("\n " + json.dumps(whole, **layout) + " \n")
    monkeypatch.setattr(read_many, "PIECE", piece)
    found = dict(read_reports(path))
    assert [*found] == ["a", "b", "c"]
    assert found["b"] == {"name": "b", "verdict": "refused", "why": "no dump"}
    assert found["a"]["verdict"] == "bug"
    assert [row["local_ratio"] for row in found["a"]["taps"] if row["tap"].endswith("1.attn.visible")] == [math.inf]


@pytest.mark.parametrize("piece", [1, 2**20])
def test_a_report_of_one_dump_has_no_name(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(read_many, "PIECE", piece)
    path = tmp_path / "one.json"
    path.write_text(json.dumps(example(layers=2)[0], indent=1))
    [(name, report)] = read_reports(path)
    assert (name, report["verdict"]) == (None, "match")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-20],
        lambda text: text + "x",
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: "\x00",
        lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
        lambda text: text.replace('"schema_version": 1', '"schema_version": 1, "schema_version": 1'),
        lambda text: text.replace('"name": "a"', '"name": 1'),
        lambda text: text.replace('"format_version": 1', '"format_version": 3'),
        lambda text: text.replace('"noise"', '"noise').replace('"taps": [', '"taps": [['),
        lambda text: text.replace('"dumps": [', '"dumps": [,'),
        lambda text: text.replace('"dumps": [', '"dumps": {'),
        lambda text: text.replace('"why": "no dump"', '"why": 3'),
        lambda text: text.replace("1.5", "1e999"),
        lambda text: text.replace('"dumps": [', '"dumps": [' + "[" * 100_000),
        lambda text: text.replace('"summary"', '"dumps": [], "summary"'),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(tmp_path, spoil):
    text = json.dumps(document())
    path = tmp_path / "all.json"
    path.write_text(spoil(text))
    assert spoil(text) != text
    with pytest.raises(BadInput) as refusal:
        list(read_reports(path))
    assert len(str(refusal.value).splitlines()) == 1
    assert "all.json" in str(refusal.value)


def test_memory_is_that_of_one_report(tmp_path, monkeypatch):
    """A report that is longer than what one may have is refused before it is whole in memory."""
    monkeypatch.setattr(read_many, "MOST_BYTES", 10_000)
    monkeypatch.setattr(read_many, "PIECE", 1000)
    path = tmp_path / "all.json"
    path.write_text(json.dumps(document()))
    with pytest.raises(BadInput, match="at most 10000 characters"):
        list(read_reports(path))
