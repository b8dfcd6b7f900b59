"""What moved since an earlier report, as a section of a dump's page."""

from typing import Any

from ref.report.figures import sentence
from ref.report.html_parts import MOST_ROWS, Page
from ref.report.regression import in_words, moved_rows, value_words, verdict_words

COLUMNS = ("tap", "pass", "before", "now", "moved", "verdict")


def regression_in_html(report: dict[str, Any]) -> str:
    """Write the section; empty where no baseline was given.

    Args:
        report: what `compare` returns, its texts printable.
    """
    one = report.get("regression")
    if not one:
        return ""
    page = Page()
    section = page.add("section", id="regression", aria_labelledby="regression-title")
    page.add("h2", "Beside the baseline", section, id="regression-title")
    said = in_words(one)
    page.add("p", sentence(said[0].upper() + said[1:]), section)
    if one["changed_beside"]:
        page.rows("ul", one["changed_beside"], section)
    rows = moved_rows(report)
    if rows:
        _table(page, rows, section)
        hint = f"Local errors in floors. What moved by at most {one['noise']:g} floors is left out: {one['same']} taps."
        page.add("p", hint, section, class_="hint")
    return page.text()


def _table(page: Page, rows: list[dict[str, Any]], section) -> None:
    table = page.add("table", into=page.add("div", into=section, class_="scroll"), class_="moved")
    head = page.add("tr", into=page.add("thead", into=table))
    for name in COLUMNS:
        page.add("th", name, head, scope="col")
    body = page.add("tbody", into=table)
    for row in rows[:MOST_ROWS]:
        line = page.add("tr", into=body)
        page.add("th", row["tap"], line, scope="row")
        texts = [str(row["pass"]), value_words(row["before"]), value_words(row["now"])]
        texts += [value_words(row["moved"], True), verdict_words(row).replace("->", "→")]
        for name, text in zip(COLUMNS[1:], texts, strict=True):
            kind = {"moved": f"number {row['what']}", "verdict": "word"}.get(name, "number")
            page.add("td", text, line, class_=kind, data_name=name)
    if len(rows) > MOST_ROWS:
        page.add("p", f"and {len(rows) - MOST_ROWS} more", section)
