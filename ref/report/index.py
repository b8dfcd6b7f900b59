"""The index page of many dumps: dumps by layers, the first bug of each and its cause; offline as all pages are."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ref.measure.floor import LIMIT
from ref.report.figures import counted
from ref.report.html_parts import Page
from ref.report.many import NOT_JUDGED, VERDICTS, Row, columns_of, counts_of, mistakes_of, summary_lines
from ref.report.page import as_json, assemble, write_page

PARTS = Path(__file__).parent
MOST_MISTAKES = 20
ROW = ("name", "page", "verdict", "line", "first", "causes", "worst", "taps", "seconds", "moved", "cells")


def write_index(rows: Sequence[Row], path: str | Path) -> Path:
    """Write the index page.

    Args:
        rows: of the dumps, in the order they were given.
        path: where; under a temporary name first, then renamed.

    Raises:
        BadInput: the file cannot be written.
    """
    return write_page(path, render_index(rows))


def render_index(rows: Sequence[Row]) -> str:
    """Return the index page as text of at most 8 MB: cells of dumps that match are left out where there is no room.

    Args:
        rows: of the dumps.
    """
    fill = {"VERDICT": _verdict(rows), "MISTAKES": _mistakes(rows), "NOSCRIPT": _plain(rows)}
    title = "gemma3-ref compare: many dumps"
    return assemble(title, PARTS, "index", fill, lambda room: packed(rows, room), style_of="page", draws=False)


def packed(rows: Sequence[Row], room: int) -> str:
    """Return the page's data as JSON that fits a number of bytes.

    Args:
        rows: of the dumps.
        room: bytes. What does not fit loses its cells: dumps that match first, then all.
    """
    columns = columns_of(rows)
    taps = list(dict.fromkeys(cell.tap for row in rows for cell in row.cells.values()))
    place = {tap: i for i, tap in enumerate(taps)}
    head = {"limit": LIMIT, "columns": columns, "verdicts": VERDICTS, "taps": taps, "row": ROW}
    text = ""
    for keeps in (lambda row: True, lambda row: row.verdict != "match", lambda row: False):
        lines = [_line(row, columns if keeps(row) else [], place) for row in rows]
        text = as_json(
            head
            | {
                "left_out": sum(not line[-1] and bool(row.cells) for line, row in zip(lines, rows, strict=True)),
                "dumps": lines,
            }
        )
        if len(text) <= room:
            break
    return text


def _line(row: Row, columns: Sequence[str | int], place: dict[str, int]) -> list[Any]:
    cells = [_cell(row.cells.get(column), place) for column in columns]
    moved = row.moved and [row.moved.comparable, row.moved.worse, row.moved.better, row.moved.other]
    moved = moved and [*moved, row.moved.worst or row.moved.why, row.moved.before]  # type: ignore[union-attr]
    values = [row.name, row.page, VERDICTS.index(row.verdict), row.line, row.first, list(row.causes)]
    return [*values, _number(row.worst), row.taps, row.seconds, moved, cells if any(cells) else []]


def _cell(cell, place: dict[str, int]) -> list[Any] | int:
    return 0 if cell is None else [VERDICTS.index(cell.verdict), _number(cell.ratio), place[cell.tap]]


def _number(value: float | None) -> Any:
    """Round a number; what JSON has no word for becomes `inf` or `nan`."""
    return value if value is None else float(f"{value:.3g}") if math.isfinite(value) else str(value)


def _verdict(rows: Sequence[Row]) -> str:
    page = Page()
    line = page.add("p", class_="verdict")
    for verdict, count in counts_of(rows).items():
        if count:
            page.add("span", f"{count} {verdict}", line, class_=f"badge {verdict}")
    page.add("strong", f"of {counted(len(rows), 'dump')}", line, id="first")
    for text in summary_lines(rows)[:-1]:
        if text.startswith("beside the baseline"):
            page.add("p", text[0].upper() + text[1:] + ".", class_="hint", id="moved")
    return page.text()


def _mistakes(rows: Sequence[Row]) -> str:
    """List the mistakes of all dumps; the script makes of each a button that shows its dumps."""
    found, page = mistakes_of(rows), Page()
    if not found:
        return ""
    section = page.add("section", id="mistakes", aria_labelledby="mistakes-title")
    page.add("h2", "Mistakes that were found", section, id="mistakes-title")
    block = page.add("ul", into=section)
    for name, dumps in found[:MOST_MISTAKES]:
        item = page.add("li", into=block)
        what = "no known mistake" if name == "unknown" else name
        page.add("span", what, item, class_="mistake", data_name=name)
        page.add("span", f" in {counted(len(dumps), 'dump')}", item, class_="source")
    if len(found) > MOST_MISTAKES:
        page.add("li", f"and {len(found) - MOST_MISTAKES} more", block)
    return page.text()


def _plain(rows: Sequence[Row]) -> str:
    """List the dumps that do not match, for who runs no scripts."""
    page = Page()
    bad = [row for row in rows if row.verdict != "match"]
    page.rows(
        "ul", [f"{row.name}: {row.verdict if row.verdict in NOT_JUDGED else ''} {row.line}".strip() for row in bad]
    )
    return page.text()
