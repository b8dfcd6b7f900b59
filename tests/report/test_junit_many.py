"""JUnit XML of many dumps: a suite each, as the schemas of Ant and Jenkins ask for; what got worse fails."""

import errno
from xml.etree import ElementTree

import pytest
from support.many import reports
from support.report_examples import WRONG, at, example, rope_bug

from ref.errors import BadInput
from ref.report.regression import set_beside

pytest.importorskip("junitparser", reason="needs junitparser: pip install -e '.[report]'")

from ref.report.junit import junit_xml
from ref.report.junit_many import Suites


class Full:
    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


SUITE = {"name", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time", "id", "package"}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "report.xml"
    with Suites(path) as suites:
        for name, report in reports().items():
            suites.add(report, name)
        suites.add_refused("broken", "no dump\x1b[31m", "refused")
        suites.write()
    return ElementTree.parse(path).getroot()


def test_the_document_has_a_suite_for_each_dump(written):
    assert (written.tag, written.attrib) == ("testsuites", {})
    assert [suite.attrib["id"] for suite in written] == [str(i) for i in range(len(reports()) + 1)]
    assert written[1].attrib["name"] == "gemma3-ref compare en/bug"
    for suite in written:
        assert set(suite.attrib) == SUITE
        assert [child.tag for child in suite][-2:] == ["system-out", "system-err"]


def test_a_suite_is_that_of_its_report_alone(written):
    alone = ElementTree.fromstring(junit_xml(reports()["en/bug"], "en/bug"))[0]
    for suite in (alone, written[1]):
        suite.attrib.pop("timestamp"), suite.attrib.pop("id")
    assert alone.attrib == written[1].attrib
    shown = [[ElementTree.tostring(child) for child in suite] for suite in (alone, written[1])]
    assert [one.strip() for one in shown[0]] == [one.strip() for one in shown[1]]


def test_what_was_refused_is_an_error(written):
    suite = written[-1]
    assert (suite.attrib["tests"], suite.attrib["errors"], suite.attrib["failures"]) == ("1", "1", "0")
    [error] = suite.iter("error")
    assert error.attrib == {"message": r"no dump\x1b[31m", "type": "refused"}


def test_what_got_worse_fails_and_what_got_better_is_a_property():
    before, now = example(layers=4)[0], example(layers=4)[0]
    at(before, "text.layer.1.mid")["local_ratio"] = 1.9
    at(now, "text.layer.1.mid")["local_ratio"] = 0.4
    at(before, "text.layer.2.mid")["local_ratio"] = 0.4
    at(now, "text.layer.2.mid")["local_ratio"] = 1.9
    now["regression"] = set_beside(before, now, "last")
    [suite] = ElementTree.fromstring(junit_xml(now))
    [failed] = [case for case in suite.iter("testcase") if len(case)]
    assert failed.attrib["name"] == "text.layer.2.mid"
    said = "worse than the baseline: 0.40 -> 1.90 floors (+1.50), match"
    assert failed[0].attrib == {"message": said, "type": "regression"}
    told = {one.attrib["name"]: one.attrib["value"] for one in suite.iter("property")}
    assert told["better: text.layer.1.mid, pass 0"] == "1.90 -> 0.40 floors (-1.50), match"
    assert told["regression"] == "beside the baseline last: 1 tap worse, 1 better"


def test_a_bug_that_is_new_stays_a_bug_with_what_was_before():
    now = rope_bug(layers=4)[0]
    now["regression"] = set_beside(example(layers=4)[0], now, "last")
    [suite] = ElementTree.fromstring(junit_xml(now))
    [failed] = [case for case in suite.iter("testcase") if len(case)]
    assert (failed.attrib["name"], failed[0].attrib["type"]) == (WRONG, "bug")
    assert failed[0].text.splitlines()[-1].endswith("match -> bug")


def test_a_full_disk_is_told_at_the_end(tmp_path, monkeypatch):
    with Suites(tmp_path / "report.xml") as suites:
        suites.add(example(layers=1)[0], "a")
        monkeypatch.setattr(suites, "file", Full())
        suites.add(example(layers=1)[0], "b")
        monkeypatch.undo()
        with pytest.raises(BadInput, match="wanted room for a temporary file beside it, got No space left on device"):
            suites.write()
    assert not (tmp_path / "report.xml").exists()
