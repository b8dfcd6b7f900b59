"""What to capture next, for a terminal: the commands of what is open, to paste, broken where a shell may be."""

import shlex
from collections.abc import Iterator
from typing import Any

MOST = 3  # questions whose commands are shown; --next writes all


def next_lines(report: dict[str, Any], width: int) -> Iterator[str]:
    """Yield the commands that answer what a report leaves open.

    Args:
        report: what `compare` returns.
        width: of a line; a word that is longer stands alone.
    """
    rows = [row for row in report.get("next") or [] if row["command"] and row["why"] in report.get("decide", "")]
    for row in rows[:MOST]:
        yield from broken(row["command"], width)
    if any(row["prompt"] for row in rows[:MOST]):
        yield "  (the same compare with --next DIR writes the prompt file)"
    if len(rows) > MOST:
        yield f"  and {len(rows) - MOST} more commands: the same compare with --next DIR writes them all"


def broken(command: str, width: int, first: str = "  ", rest: str = "      ") -> Iterator[str]:
    """Break a shell command into lines that end in a backslash, between its words."""
    line = first
    for word in map(shlex.quote, shlex.split(command)):
        if line.strip() and len(line) + len(word) + 2 > width:
            yield line.rstrip() + " \\"
            line = rest
        line += word + " "
    yield line.rstrip()
