"""A measured row as lines of text, and the Markdown page of a run."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from .figures import cells

HEAD = ("", "rate", "time", "spread", "of the cores", "peak memory", "time, ratio", "over rounds", "cores", "memory")
EXPLAINED = """\
Timings of a row's entries alternate. Time is their median, spread half of what lies between least and largest. Seconds
of the cores are those of all cores together. Peak memory is of the process, files that are mapped too. Ratios of time
and cores are of two medians: an entry's over the first entry's of the row (above 1 the first is faster), in rows of
growth over the line above, whose length is half. `Over rounds` are the least and the largest of the ratio of time.
"""


def as_text(row: dict[str, Any]) -> str:
    """Return a row's lines."""
    lines = [f"{full_name(row)}: {row['what']}"]
    for entry in row["entries"]:
        name, rate, seconds, spread, cores, peak, ratio, between, of_cores, of_memory = cells(row, entry)
        beside = (
            f"  {ratio} beside {entry['beside']} ({between}), cores {of_cores}, memory {of_memory}" if ratio else ""
        )
        lines.append(f"  {name:<26}{rate:>16}{seconds:>10} {spread:<7}{cores:>10} of cores {peak:>9}{beside}")
    return "\n".join(lines + [f"  {left}" for left in left_out(row)])


def full_name(row: dict[str, Any]) -> str:
    """Return the row's name with the form of its weights."""
    return f"{row['row']}/{row['form']}" if row["form"] else row["row"]


def left_out(row: dict[str, Any]) -> list[str]:
    """Say what could not be measured."""
    return [f"{name}: left out, {why}" for name, why in row.get("left out", {}).items()]


def as_page(run: dict[str, Any], picture: str = "") -> str:
    """Return the page of a run.

    Args:
        run: what `--json` prints.
        picture: path of the plot of growth, from the page.
    """
    facts = {**run["machine"], "threads": run["threads"], **run["versions"], "commit": run["commit"]}
    lines = ["# Results", "", f"Made by `{run['command']}` on {run['date']}.", "", EXPLAINED]
    lines += [f"- {name}: {value}" for name, value in facts.items() if value]
    lines += [f"- {line}" for line in run["left out"]]
    for _, rows in groupby(run["rows"], lambda row: row["row"]):
        lines += _table(list(rows))
    lines += ["", f"![Time and memory of growing lengths]({picture})"] if picture else []
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["", f"## {rows[0]['row']}", "", f"{rows[0]['what'][0].upper()}{rows[0]['what'][1:]}.", ""]
    lines += [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        for entry in row["entries"]:
            name, *others = cells(row, entry)
            label = f"{row['form']}: {name}" if row["form"] else name
            lines.append(f"| {label} | {' | '.join(others)} |")
    notes = [f"- {row['form']} {line}".replace("-  ", "- ") for row in rows for line in left_out(row)]
    return lines + (["", *notes] if notes else [])
