"""What moved since an earlier report, for a terminal."""

from collections.abc import Iterator
from typing import Any

from ref.report.regression import in_words, moved_rows, value_words, verdict_words
from ref.report.text_causes import wrapped

MOST_ROWS = 12


def regression_lines(report: dict[str, Any], width: int, everything: bool = False) -> Iterator[str]:
    """Yield the taps that moved, changes of a verdict first; nothing where no baseline was given.

    Args:
        report: what `compare` returns, its texts printable.
        width: of a line.
        everything: every tap that moved, not only the first.
    """
    one = report.get("regression")
    if not one:
        return
    yield from wrapped(in_words(one), width, "")
    for text in one["changed_beside"]:
        yield from wrapped(text, width)
    rows = moved_rows(report)
    if rows:
        yield f"  {'tap':<31}{'pass':>5}{'before':>10}{'now':>10}{'moved':>10}  verdict"
    shown = rows if everything else rows[:MOST_ROWS]
    for row in shown:
        name = row["tap"] if len(row["tap"]) <= 31 else row["tap"][:30] + "…"
        numbers = f"{value_words(row['before']):>10}{value_words(row['now']):>10}{value_words(row['moved'], True):>10}"
        yield f"  {name:<31}{row['pass']:>5}{numbers}  {verdict_words(row)}"
    if len(shown) < len(rows):
        yield f"  and {len(rows) - len(shown)} more"
