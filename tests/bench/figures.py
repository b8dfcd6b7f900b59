"""From timings to what is said of them: medians, their spread, and ratios."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from .row import Row, Taken


def figures(row: Row, taken: Sequence[Taken], left_out: dict[str, str]) -> dict[str, Any]:
    """Describe a row that was measured.

    Args:
        row: the row.
        taken: timings of its entries.
        left_out: of other entries, why.

    Returns:
        What `--json` prints of it. `ratio` is the median of an entry's seconds over that of the entry named in
        `beside`, `ratios` the least and the largest over rounds; `cores ratio` and `peak ratio` are of the others.
    """
    by_name = {one.entry.name: one for one in taken}
    first = row.entries[0].name if row.entries else None
    entries = [_entry(row, one, by_name, first) for one in taken]
    found = {"row": row.name, "form": row.form, "what": row.what, "unit": row.unit, "entries": entries}
    return found | ({"limit": row.limit} if row.limit else {}) | ({"left out": left_out} if left_out else {})


def _entry(row: Row, one: Taken, by_name: dict[str, Taken], first: str | None) -> dict[str, Any]:
    middle = median(one.seconds)
    found: dict[str, Any] = {
        "name": one.entry.name,
        "seconds": middle,
        "of": one.seconds,
        "cores": median(one.cores),
        "peak": one.peak,
    }
    if row.unit:
        found["rate"] = row.amount / middle
    beside = one.entry.beside or (None if row.alone else first)
    other = by_name.get(beside) if beside and beside != one.entry.name else None
    if other:
        rounds = [a / b for a, b in zip(one.seconds, other.seconds, strict=True)]
        found |= {"beside": beside, "ratio": middle / median(other.seconds), "ratios": [min(rounds), max(rounds)]}
        found |= {"cores ratio": found["cores"] / median(other.cores), "peak ratio": one.peak / other.peak}
        if row.limit and not one.entry.checkout:
            found["within"] = max(found["ratio"], found["peak ratio"]) <= row.limit
    return found


def cells(row: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """Return what is printed of an entry, as `say.HEAD` names it."""
    seconds, spread = entry["seconds"], (max(entry["of"]) - min(entry["of"])) / entry["seconds"] / 2
    rate = f"{_three(entry['rate'])} {row['unit']}" if "rate" in entry else ""
    own = [
        entry["name"],
        rate,
        _time(seconds),
        f"± {spread:.0%}",
        _time(entry["cores"]),
        f"{entry['peak'] / 1e9:.2f} GB",
    ]
    if "ratio" not in entry:
        return [*own, "", "", "", ""]
    three = [f"{entry[name]:.2f} x" for name in ("ratio", "cores ratio", "peak ratio")]
    if not entry.get("within", True):
        three[0] += f", above {row['limit']}" if entry["ratio"] > row["limit"] else ""
        three[2] += f", above {row['limit']}" if entry["peak ratio"] > row["limit"] else ""
    between = f"{entry['ratios'][0]:.2f} to {entry['ratios'][1]:.2f}"
    return [*own, three[0], between, *three[1:]]


def _time(seconds: float) -> str:
    return f"{_three(seconds)} s" if seconds >= 0.1 else f"{_three(1e3 * seconds)} ms"


def _three(value: float) -> str:
    """Write a number with three digits or more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
