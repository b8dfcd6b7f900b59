"""A report is a contract: closed, versioned, and the same for whoever made it."""

import copy
import json

import jsonschema
import numpy as np
import pytest
from support.judged import captured
from support.report_examples import HIDDEN, TIED, example, rope_bug, wrong
from support.reports import checked, report_of

import ref
from ref.cli import main
from ref.golden_files.files import golden_root, schema
from ref.golden_files.report_format import FORMAT, FORMAT_VERSION, KINDS


def test_the_schema_is_one_and_closed_wherever_an_object_has_a_shape():
    content = schema("report")
    jsonschema.Draft202012Validator.check_schema(content)
    assert content["properties"]["format"]["const"] == FORMAT
    assert content["properties"]["format_version"]["const"] == FORMAT_VERSION
    assert tuple(content["properties"]["kind"]["enum"]) == KINDS

    def closed(part):
        if isinstance(part, list):
            return all(map(closed, part))
        if not isinstance(part, dict):
            return True
        shaped = part.get("type") == "object" and "properties" in part
        return (not shaped or part.get("additionalProperties") is False) and all(map(closed, part.values()))

    assert all(map(closed, content["$defs"].values()))


def test_what_the_judge_returns_is_a_report():
    rows = {tap: value for tap, value in captured(tokens=3).items() if tap.startswith("text.layer.0.")}
    report = ref.compare(rows, "tiny", ids=[20, 21, 22])
    assert checked(report)["verdict"] in ("match", "undetermined")
    broken = rows | {"text.layer.0.mid": rows["text.layer.0.mid"] * np.float32(np.inf)}
    assert checked(ref.compare(broken, "tiny", ids=[20, 21, 22]))["verdict"] == "bug"


def test_a_bug_and_what_it_looks_like_are_a_report(capsys):
    dump = str(golden_root() / "dumps" / "tiny-bug")
    assert main(["compare", dump, "--json"]) == 1
    report = report_of(capsys.readouterr().out, "compare")
    assert [row["verdict"] for row in report["diagnosis"]][:1] == ["named"]


def test_two_dumps_are_a_report_inside_a_report(monkeypatch, capsys):
    from ref.commands import compare

    monkeypatch.setattr(compare, "_judge", lambda args, dump: example() if dump == "b" else rope_bug())
    assert main(["compare", "a", "b", "--json"]) == 1
    report = report_of(capsys.readouterr().out, "compare")
    assert (report["verdict"], report["other"]["verdict"]) == ("bug", "match")


def spoil(change):
    report, _ = rope_bug()
    report = copy.deepcopy(report)
    change(report)
    return report


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(more=1),
        lambda r: r.pop("passes"),
        lambda r: r.update(kind="verify"),
        lambda r: r.update(format_version=2),
        lambda r: r["taps"][0].update(ratio=1.0),
        lambda r: r["taps"][0].update(verdict="wrong"),
        lambda r: r["taps"][0].pop("floor"),
        lambda r: r["diagnosis"][0].update(source="a thread"),
        lambda r: r["diagnosis"][0].update(seen_in="owner/port#7"),
        lambda r: r["weights"].update(held="file"),
        lambda r: r.update(other={"kind": "compare"}),
    ],
)
def test_what_is_not_in_the_contract_is_refused(change):
    with pytest.raises(jsonschema.ValidationError):
        checked(spoil(change))


def test_the_examples_of_other_tests_are_reports():
    checked(example()[0])
    checked(rope_bug(passes=2)[0])
    report, _ = example()
    wrong(report)
    for rows in (TIED, HIDDEN):
        places = [row | {"tap": "text.embed", "pass": 0} for row in rows]
        checked(report | {"diagnosis": [row | ({"passes": [0]} if row.get("hidden") else {}) for row in places]})
    assert json.loads(json.dumps(report)) == report
