"""What each rank of a dump holds of a tap, in words."""

from typing import Any

from ref.hypotheses.lists import and_more
from ref.measure.rank_words import listed
from ref.report.figures import floors

MOST = 8  # ranks that a line lists


def by_rank(row: dict[str, Any]) -> str:
    """List the floors of each rank: `rank 0 (N 0..1) 0.95, rank 1 (N 2..3) 925`; empty where ranks do not matter.

    Args:
        row: an item of a report's `taps`.
    """
    rows = row.get("ranks") or []
    held = [_one(one) for one in rows if one["kind"] != "partial"]
    sums = [_one(one) for one in rows if one["kind"] == "partial"]
    parts = f"parts of the sum: {and_more(sums, MOST)}" if sums else ""
    return "; ".join(part for part in (and_more(held, MOST), parts) if part)


def _one(one: dict[str, Any]) -> str:
    where = f" ({one['axis']} {one['start']}..{one['stop'] - 1})" if one["axis"] else ""
    stage = f" of pipeline rank {one['pipeline']}" if one["pipeline"] else ""
    return f"rank {one['rank']}{stage}{where} {floors(one['floors'])}"


def ranks_of(cause: dict[str, Any], report: dict[str, Any]) -> str:
    """Say on which ranks a cause is: `rank 2`; empty where on all, or where it says so itself.

    Args:
        cause: an item of a report's `causes`.
        report: the report.
    """
    if any(one["name"] == "rank" for one in cause["parameters"]):
        return ""
    rows = [row for row in report["taps"] if row["tap"] in cause["taps"] and row["pass"] in cause["passes"]]
    held = [one for row in rows for one in row.get("ranks") or [] if one["kind"] != "partial"]
    wrong = [one["rank"] for one in held if one["off"]]
    return listed(wrong) if wrong and len(wrong) < len(held) else ""
