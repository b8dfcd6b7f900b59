"""JUnit XML: what the schemas of Ant and Jenkins ask for, and the report's numbers in it."""

import sys
from datetime import datetime
from xml.etree import ElementTree

import pytest
from support.report_examples import HOSTILE, WRONG, everything_wrong, example, rope_bug

from ref.errors import BadInput

pytest.importorskip("junitparser", reason="needs junitparser: pip install -e '.[report]'")

from junitparser import Failure, JUnitXml, Skipped

from ref.report.junit import junit_xml

REPORTS = [example, rope_bug, everything_wrong]
# JUnit.xsd of windyroad/JUnit-Schema, the stricter of the two: children in this order, attributes all required
ORDER = ["properties", "testcase", "system-out", "system-err"]
SUITE = {"name", "timestamp", "hostname", "tests", "failures", "errors", "time", "id", "package"}


@pytest.mark.parametrize("make", REPORTS)
def test_the_document_is_what_the_schemas_ask_for(make):
    root = ElementTree.fromstring(junit_xml(make()[0]))
    assert (root.tag, root.attrib) == ("testsuites", {})
    [suite] = root
    tags = [child.tag for child in suite]
    assert tags == sorted(tags, key=ORDER.index)
    assert [tags.count(tag) for tag in ("properties", "system-out", "system-err")] == [1, 1, 1]
    assert set(suite.attrib) == SUITE | {"skipped"}
    datetime.strptime(suite.attrib["timestamp"], "%Y-%m-%dT%H:%M:%S")
    assert suite.attrib["time"] == "12.3"
    for one in suite.find("properties"):
        assert set(one.attrib) == {"name", "value"}
        assert one.attrib["name"]
    for case in suite.iter("testcase"):
        assert set(case.attrib) == {"name", "classname", "time"}
        assert [child.tag for child in case] in ([], ["failure"], ["skipped"])
        assert all(set(child.attrib) == {"message", "type"} for child in case if child.tag == "failure")


@pytest.mark.parametrize("make", REPORTS)
def test_every_tap_is_a_case_and_every_bug_a_failure(make):
    report, _ = make()
    [suite] = JUnitXml.fromstring(junit_xml(report))
    kinds = {"bug": [Failure], "undetermined": [Skipped], "match": []}
    cases = list(suite)
    assert [case.name for case in cases] == [row["tap"] for row in report["taps"]]
    for case, row in zip(cases, report["taps"], strict=True):
        assert case.time == row["seconds"] > 0
        assert [type(one) for one in case.result] == kinds[row["verdict"]]
        assert case.classname.endswith(f"/pass {row['pass']}")
    verdicts = [row["verdict"] for row in report["taps"]]
    counts = (len(cases), verdicts.count("bug"), 0, verdicts.count("undetermined"))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == counts


def test_a_time_that_is_not_known_is_left_out():
    report, _ = example()
    del report["taps"][3]["seconds"]
    cases = list(ElementTree.fromstring(junit_xml(report)).iter("testcase"))
    assert [i for i, case in enumerate(cases) if "time" not in case.attrib] == [3]


def test_a_failure_has_the_numbers():
    report, _ = rope_bug()
    [suite] = JUnitXml.fromstring(junit_xml(report, "runs/monday"))
    [case] = [case for case in suite if case.result]
    row = next(row for row in report["taps"] if row["tap"] == WRONG)
    assert (case.classname, case.name) == ("runs/monday/pass 0", WRONG)
    assert case.result[0].message == "41.2 floors: RoPE pairs channels 2j and 2j + 1 (rope_interleaved)"
    told = dict(line.split(": ") for line in case.result[0].text.splitlines())
    for key in ("local", "local_floor", "local_ratio", "inherited", "floor", "inherited_ratio"):
        assert float(told[key]) == row[key]
    assert float(told["cosine"]) == row["metrics"]["cosine"]


def test_properties_and_output_say_what_was_judged_and_found():
    [suite] = JUnitXml.fromstring(junit_xml(rope_bug()[0]))
    told = {one.name: one.value for one in suite.properties()}
    assert (told["verdict"], told["producer"]) == ("bug", "transformers 5.23.0")
    assert "judged against 270m" in told["weights"]
    assert "kv dtype float32" in told["arithmetic"]
    out = suite._elem.find("system-out").text
    assert "the window was not exercised" in out
    assert "(rope_interleaved)" in out.splitlines()[-1]
    assert out.splitlines()[-1] == f"verdict: {told['summary']}"


def test_undetermined_says_why_and_hostile_names_stay_text():
    text = junit_xml(everything_wrong()[0])
    [suite] = JUnitXml.fromstring(text)
    messages = [case.result[0].message for case in suite if case.result and isinstance(case.result[0], Skipped)]
    assert "its inputs are not finite" in messages
    assert HOSTILE in messages
    assert text.isascii()
    told = {one.name: one.value for one in suite.properties()}
    assert r"a\x1b[31m\x00\x07\u202eb\ud800\x85\n\ufffe" in told["producer"]


def test_without_junitparser_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "junitparser", None)
    with pytest.raises(BadInput, match=r'junitparser: wanted pip install -e "\.\[report\]"') as refusal:
        junit_xml(example()[0])
    assert len(str(refusal.value).splitlines()) == 1
