"""The report as JUnit XML, for the test tables of build servers: one test case per tap."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ref.errors import pip_install, wanted
from ref.report.causes import cause_at, cause_words, unknown_words
from ref.report.figures import nonfinite
from ref.report.regression import in_words, moved_rows, moved_words
from ref.report.text import render_text
from ref.report.words import how_far, judged, printable, verdict_line

if TYPE_CHECKING:
    from junitparser import TestSuite


def junit_xml(report: dict[str, Any], dump: str | None = None) -> str:
    """Write a report as JUnit XML.

    Args:
        report: what `compare` returns.
        dump: what to call the dump; None takes its producer's name.

    Returns:
        An XML document: one test suite; one test case per tap, of class `dump/pass 0`. Its time is what passed since
        the tap before, weights that were made ready for it included; a report that lacks it has none. A bug is a
        failure with its cause and its numbers, and so is a tap that is worse than the baseline's; an undetermined tap
        is skipped with its reason. Properties say what was
        judged, `summary` is the verdict in a line, `system-out` what the terminal shows. Characters that XML does not
        allow are written as escapes.

    Raises:
        BadInput: junitparser is not installed.

    Source: the schemas of Apache Ant (windyroad/JUnit-Schema, JUnit.xsd) and of Jenkins (xunit-plugin, junit-10.xsd):
        valid by both.
    """
    import_junitparser()
    from junitparser import JUnitXml

    xml = JUnitXml()
    xml.append(suite_of(report, dump))
    return xml.tostring().decode()


def suite_of(report: dict[str, Any], dump: str | None = None, number: int = 0) -> "TestSuite":
    """Return a report as a test suite of junitparser.

    Args:
        report, dump: as `junit_xml`.
        number: of the suite among those of its document.
    """
    from junitparser import TestSuite
    from junitparser.junitparser import SystemErr, SystemOut

    told, report = render_text(report), printable(report)
    name = printable(dump) if dump else str((report.get("producer") or {}).get("name") or "dump")
    suite = TestSuite(f"gemma3-ref compare {name}")
    said = ("summary", verdict_line(report).removeprefix("verdict: "))
    for key, text in [("verdict", report["verdict"]), said, *judged(report), *_regression(report)]:
        suite.add_property(key, text)
    worse = {(row["tap"], row["pass"]): row for row in moved_rows(report) if row["what"] == "worse"}
    rows = [(row, f"{name}/pass {row['pass']}", worse.get((row["tap"], row["pass"]))) for row in report["taps"]]
    suite.add_testcases([_case(row, where, report, moved) for row, where, moved in rows])  # counted once, not each
    suite.append(SystemOut(told))
    suite.append(SystemErr(""))
    suite.update_statistics()
    suite.time = round(float(report.get("seconds") or 0), 3)
    finish(suite, number)
    return suite


def finish(suite: "TestSuite", number: int = 0) -> None:
    """Give a suite what Ant's schema asks for; no sums stand on the root, which it does not know.

    Args:
        suite: of junitparser.
        number: of the suite among those of its document.
    """
    suite.timestamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    suite.hostname = "localhost"
    suite._elem.attrib |= {"id": str(number), "package": "gemma3-ref"}


def import_junitparser() -> None:
    """Import junitparser.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import junitparser  # noqa: F401
    except ImportError:
        raise wanted("junitparser", "JUnit XML", pip_install("report"), "no such package") from None


def _regression(report: dict[str, Any]) -> list[tuple[str, str]]:
    """List as properties what moved since the baseline and is no failure."""
    one = report.get("regression")
    if not one:
        return []
    rows = [row for row in moved_rows(report) if row["what"] != "worse"]
    moved = [(f"{row['what']}: {row['tap']}, pass {row['pass']}", moved_words(row)) for row in rows]
    return [("regression", in_words(one)), *moved]


def _case(row: dict[str, Any], classname: str, report: dict[str, Any], worse: dict[str, Any] | None):
    from junitparser import Failure, Skipped, TestCase

    case = TestCase(row["tap"], classname, row.get("seconds"))
    if row["verdict"] == "bug":
        cause = cause_at(row, report)
        words = cause_words(cause, report) if cause else unknown_words(report)
        failure = Failure(f"{how_far(row)}: {words}", "bug")
        failure.text = numbers(row) + (f"\nworse than the baseline: {moved_words(worse)}" if worse else "")
        case.result = [failure]
    elif worse:
        failure = Failure(f"worse than the baseline: {moved_words(worse)}", "regression")
        failure.text = numbers(row)
        case.result = [failure]
    elif row["verdict"] == "undetermined":
        case.result = [Skipped(row["why"] or "undetermined")]
    return case


def numbers(row: dict[str, Any]) -> str:
    """Write a tap's numbers, one per line.

    Args:
        row: an item of a report's `taps`.
    """
    keys = ("local", "local_floor", "local_ratio", "inherited", "floor", "inherited_ratio", "dtype")
    lines = [f"{key}: {row[key]}" for key in keys if row.get(key) is not None]
    lines += [f"{key}: {value}" for key, value in (row.get("metrics") or {}).items() if value is not None]
    lines += [f"recomputed on the way: {', '.join(row['span'])}"] if row.get("span") else []
    return "\n".join(lines + ([nonfinite(row)] if row.get("nonfinite") else []))
