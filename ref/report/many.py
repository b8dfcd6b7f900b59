"""What is kept of each of many dumps that were judged in one call, and what is said of them together."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ref.report.causes import cause_words
from ref.report.figures import counted, worst_of
from ref.report.regression import BADNESS, moved_rows, moved_words
from ref.report.words import printable, sketched, verdict_line

SCHEMA_VERSION, COMMAND = 1, "compare"
NOT_JUDGED = ("refused", "failed")  # refused: bad input; failed: by a fault of this program
VERDICTS = ("failed", "refused", "bug", "undetermined", "match")
MOST_CAUSES = 12
OUTSIDE = {"text.final_norm": "final", "text.logits": "logits"}
FIRST, LAST = ("vision", "embed"), ("final", "logits")  # columns before and after the layers


class Cell(NamedTuple):
    """The worst of a dump's taps in one column."""

    verdict: str
    ratio: float | None  # its local error in floors; of a small dump that from the prompt on
    tap: str


class Moved(NamedTuple):
    """What moved since the baseline."""

    comparable: bool
    why: str  # in a line, where it is not
    before: str | None  # the verdict
    worse: int
    better: int
    other: int  # changed, came or went
    worst: str  # the tap that stands first, and how it moved; empty where nothing moved


class Row(NamedTuple):
    """What is kept of one dump."""

    name: str
    verdict: str  # of VERDICTS
    line: str  # the verdict in a line; why it was refused
    first: str  # tap and pass of the first bug; empty without one
    causes: tuple[str, ...]  # in words, the one that moves the logits most first
    mistakes: tuple[str, ...]  # their names
    worst: float | None  # as the ratio of a cell
    cells: dict[str | int, Cell]
    taps: int
    seconds: float
    moved: Moved | None
    page: str = ""  # its own page, beside the index


def row_of(report: dict[str, Any], name: str) -> Row:
    """Keep of a report what the index and the summary need.

    Args:
        report: what `compare` returns.
        name: of the dump.
    """
    report, first = printable(report), report["first"]
    causes, key = report.get("causes") or [], "inherited_ratio" if sketched(report) else "local_ratio"
    return Row(
        printable(name),
        report["verdict"],
        verdict_line(report).removeprefix("verdict: "),
        f"{first['tap']}, pass {first['pass']}" if first else "",
        tuple(cause_words(one, report) for one in causes[:MOST_CAUSES]),
        tuple(one["mutant"] or "unknown" for one in causes[:MOST_CAUSES]),
        worst_of(report["taps"], key)[key] if report["taps"] else None,
        _cells(report["taps"], key),
        len(report["taps"]),
        float(report.get("seconds") or 0),
        _moved(report),
    )


def row_of_refused(name: str, why: str, verdict: str) -> Row:
    """Keep that a dump could not be judged.

    Args:
        name: of the dump.
        why: a line.
        verdict: one of NOT_JUDGED.
    """
    return Row(printable(name), verdict, printable(why), "", (), (), None, {}, 0, 0.0, None)


def counts_of(rows: Iterable[Row]) -> dict[str, int]:
    """Count dumps by verdict, the worst first; all verdicts are there."""
    counts: dict[str, int] = {verdict: 0 for verdict in VERDICTS}
    for row in rows:
        counts[row.verdict] += 1
    return counts


def mistakes_of(rows: Iterable[Row]) -> list[tuple[str, list[str]]]:
    """List the mistakes of many dumps with the names of the dumps, those of most dumps first."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for name in dict.fromkeys(row.mistakes):
            found.setdefault(name, []).append(row.name)
    return sorted(found.items(), key=lambda item: -len(item[1]))


def summary_of(rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """Say what was found in all dumps together, as the key `summary` of --json.

    Args:
        rows: of the dumps.
        seconds: that it took.
    """
    mistakes = [{"mutant": name, "dumps": dumps} for name, dumps in mistakes_of(rows)]
    moved = [(row, row.moved) for row in rows if row.moved]
    summary: dict[str, Any] = {"dumps": len(rows)} | counts_of(rows) | {"mistakes": mistakes}
    names = {
        "worse": [row.name for row, one in moved if one.worse],
        "better": [row.name for row, one in moved if one.better],
        "not_comparable": [row.name for row, one in moved if not one.comparable],
    }
    return summary | {"regression": names if moved else None, "seconds": round(seconds, 2)}


def summary_lines(rows: Sequence[Row]) -> list[str]:
    """Say the same in lines; the last is the verdict over all."""
    lines, counts = [], counts_of(rows)
    for name, dumps in mistakes_of(rows):
        shown = ", ".join(dumps[:6]) + (f", and {len(dumps) - 6} more" if len(dumps) > 6 else "")
        what = "no known mistake" if name == "unknown" else name
        lines.append(f"{what}: in {counted(len(dumps), 'dump')}: {shown}")
    lines += _regression_lines(rows)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return [*lines, f"{counted(len(rows), 'dump')}: {said}"]


def column_of(tap: str) -> str | int:
    """Return the column of the index that a tap stands in: its layer, or vision, embed, final, logits."""
    parts = tap.split(".")
    if parts[0] == "vision":
        return "vision"
    return int(parts[2]) if parts[1] == "layer" else OUTSIDE.get(tap, "embed")


def columns_of(rows: Iterable[Row]) -> list[str | int]:
    """List the columns that the rows have, in the order of execution."""
    there = {column for row in rows for column in row.cells}
    layers = sorted(column for column in there if isinstance(column, int))
    return [*(one for one in FIRST if one in there), *layers, *(one for one in LAST if one in there)]


def _cells(taps: list[dict[str, Any]], key: str) -> dict[str | int, Cell]:
    cells: dict[str | int, Cell] = {}
    for row in taps:
        column, new = column_of(row["tap"]), Cell(row["verdict"], row[key], row["tap"])
        if column not in cells or _size(new) > _size(cells[column]):
            cells[column] = new
    return cells


def _size(cell: Cell) -> tuple[int, float]:
    ratio = -1.0 if cell.ratio is None else float("inf") if cell.ratio != cell.ratio else cell.ratio
    return BADNESS[cell.verdict], ratio


def _moved(report: dict[str, Any]) -> Moved | None:
    one = report.get("regression")
    if not one:
        return None
    rows = moved_rows(report)
    worst = f"{rows[0]['tap']}, pass {rows[0]['pass']}: {moved_words(rows[0])}" if rows else ""
    other = one["changed"] + one["came"] + one["went"]
    why = "; ".join(one["why"])
    return Moved(one["comparable"], why, one["verdict"]["before"], one["worse"], one["better"], other, worst)


def _regression_lines(rows: Sequence[Row]) -> list[str]:
    moved = [(row.name, row.moved) for row in rows if row.moved]
    if not moved:
        return []
    worse, better = sum(one.worse > 0 for _, one in moved), sum(one.better > 0 for _, one in moved)
    said = [f"worse in {counted(worse, 'dump')}"] if worse else []
    said += [f"better in {counted(better, 'dump')}"] if better else []
    said += [f"{apart} not comparable"] if (apart := sum(not one.comparable for _, one in moved)) else []
    return [f"beside the baseline: {', '.join(said) or 'nothing moved'}"]
