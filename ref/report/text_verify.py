"""The report of `verify` as a terminal table: one line per tap group; the verdict comes last."""

from collections.abc import Iterator
from typing import Any

from ref.model.taps import tap_group
from ref.report.figures import DIFFERS, counted, floors, in_floors
from ref.report.words import printable


def render_verify(report: dict[str, Any]) -> str:
    """Render a report of `verify` for a terminal.

    Args:
        report: as `verify --json` prints it.

    Returns:
        Lines without a newline at the end. `floors (from prompt)` is the error in multiples of the noise floor,
        which in float64 is 1e-10.
    """
    report = printable(report)
    lines = [line for suite in report["suites"] for line in _suite(report, suite)]
    return "\n".join(line.rstrip() for line in [*lines, *_rest(report), _verdict(report)])


def _suite(report, suite) -> Iterator[str]:
    """List the groups of one set of weights."""
    yield f"{suite['weights']}: {', '.join(suite['cases'])}"
    columns = f"{'error':>8}{'noise floor':>13}{'floors (from prompt)':>22}  {'verdict':<8}{'values':>7}"
    yield f"  {'tap':<32}{columns}  worst at"
    for row in report["taps"]:
        worst = row["worst"]
        if worst["weights"] != suite["weights"]:
            continue
        numbers = f"{_number(row['inherited']):>8}{_number(row['floor']) if row['floor'] else 'exact':>13}"
        numbers += f"{floors(row['inherited_ratio']):>22}"
        tap = worst["tap"] if "*" in row["group"] else ""
        at = f"{worst['case']} pass {worst['pass']} {tap}".rstrip()
        yield f"  {row['group']:<32}{numbers}  {row['verdict']:<8}{row['count']:>7}  {at}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _rest(report) -> Iterator[str]:
    """Say what was run besides taps, what was not, and of which weights."""
    for name, good in report["texts"].items():
        yield f"  {'greedy ' + name:<75}  {'match' if good else 'bug'}"
    for fact in report["official"]["run"]:
        yield f"  official {fact['id']}: {fact['verdict']}: {fact['detail']}"
    if left := report["official"]["not_run"]:
        counts = ", ".join(f"{checkpoint} {count}" for checkpoint, count in left.items())
        yield f"  published facts skipped: they need other weights or images: {counts}"
    for line in report["coverage"]:
        yield f"  {line}"
    weights = report["weights"]
    yield f"  weights {weights['name']}: {weights['tensors']} tensors, all used, held as {weights['held_as']}"


def _verdict(report) -> str:
    """Say where it goes wrong first, by how much that operation's group is off, and how many groups are."""
    first = report["first"]
    if not first:
        return f"verdict: {report['verdict']}"
    place = f"{first['weights']} {first['case']} pass {first['pass']} {first['tap']}"
    bad = [row for row in report["taps"] if row["verdict"] == "bug"]
    group = tap_group(first["tap"])
    same = [row for row in bad if row["group"] == group and row["worst"]["weights"] == first["weights"]]
    far = in_floors(same[0]["inherited_ratio"]) if same else ""
    far = f"{group}, {'' if far == DIFFERS else 'at most '}{far}; " if far else ""
    return f"verdict: bug, first at {place}: {far}{len(bad)} of {counted(len(report['taps']), 'group')} are wrong"
