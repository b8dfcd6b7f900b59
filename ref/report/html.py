"""The report as one page that needs no network: heat map, tokens and channels of a tap, the diagnosis, coverage."""

from pathlib import Path
from typing import Any

from ref.report.causes import seen
from ref.report.figures import coefficient, floors, in_floors, nonfinite, sentence
from ref.report.html_parts import MOST_ROWS, Page, causes_in_html
from ref.report.html_regression import regression_in_html
from ref.report.page import assemble, write_page
from ref.report.page_data import Profiles, packed, producer_of
from ref.report.words import judged, printable, told_verdict
from ref.report.words_logits import about_whole, share, tried

PARTS = Path(__file__).parent


def write_html(
    report: dict[str, Any], profiles: Profiles | None, path: str | Path, dump_b: dict[str, Any] | None = None
) -> Path:
    """Write a report as one self-contained page.

    Args:
        report: what `compare` returns.
        profiles: of each (pass, tap) {"tokens", "channels"}: errors in floors of the noise. None: a saved report, which
            holds none; the page says so.
        path: where; under a temporary name first, then renamed.
        dump_b: the report of a second dump, shown beside the first.

    Returns:
        The path.

    Raises:
        BadInput: plotly is not installed, or the file cannot be written.

    Source: own; drawn by plotly.js (MIT), which stands in the page.
    """
    return write_page(path, render_html(report, profiles, dump_b))


def render_html(report: dict[str, Any], profiles: Profiles | None, dump_b: dict[str, Any] | None = None) -> str:
    """Return the page of `write_html` as text of at most 8 MB.

    Args:
        report: what `compare` returns.
        profiles: of each (pass, tap) {"tokens", "channels"}; None of a saved report.
        dump_b: the report of a second dump, or None.

    Raises:
        BadInput: plotly is not installed.
    """
    report, other = printable(report), printable(dump_b)
    fill = {"VERDICT": _verdict(report, other), "CAUSES": causes_in_html(report)}
    fill |= {"REGRESSION": regression_in_html(report)}
    fill |= {"DIAGNOSIS": _diagnosis(report), "REST": _rest(report, other)}
    return assemble("gemma3-ref compare", PARTS, "page", fill, lambda room: packed(report, profiles, other, room))


def _verdict(report, other) -> str:
    """Write what the last line of the text says: the verdict, the causes, what they explain and what was left out."""
    page = Page()
    for i, one in enumerate(one for one in (report, other) if one):
        if other:
            page.add("p", f"{('first', 'second')[i]} dump: {producer_of(one)}", class_="hint")
        line, told = page.add("p", class_="verdict"), told_verdict(one)
        page.add("span", one["verdict"], line, class_=f"badge {one['verdict']}")
        page.add("strong", " " + told.head.lstrip(",: "), line, **({"id": "first"} if i == 0 else {}))
        if len(told.causes) == 1:
            page.add("p", sentence(told.causes[0]).replace("+-", "±"), class_="as-if")
        elif told.causes:
            page.rows("ol", [sentence(cause).replace("+-", "±") for cause in told.causes], class_="as-if")
        if told.rest:
            rest = sentence("; ".join(told.rest)).replace("+-", "±")
            page.add("p", rest[0].upper() + rest[1:], class_="hint")
    return page.text()


COLUMNS = ("mistake", "coefficient", "floors left", "verdict", "what it is, and where it was seen")


def _diagnosis(report) -> str:
    page, rows = Page(), report.get("diagnosis") or []
    if not rows:
        nothing = "Every tap matches: there is nothing to explain."
        page.add("p", nothing if report["verdict"] == "match" else "No known mistake was tried here.")
    if rows:
        if rows[0].get("tap"):
            page.add("p", f"At {rows[0]['tap']}, pass {rows[0].get('pass', 0)}:")
        table = page.add("table", into=page.add("div", class_="scroll"), class_="evidence")
        head = page.add("tr", into=page.add("thead", into=table))
        for name in COLUMNS:
            page.add("th", name, head, scope="col")
        _evidence(page, rows, table)
    if report.get("fits"):
        page.add("h3", "Simple changes of the truth that come near")
        texts = [f"{fit['kind']}: {fit['what']}: {in_floors(fit['left'])} left" for fit in report["fits"]]
        page.rows("ul", texts)
    if report.get("from_logits"):
        _whole_model(page, report["from_logits"])
    if report.get("decide"):
        page.add("h3", "What would decide")
        page.add("p", sentence(report["decide"]))
    return page.text()


def _whole_model(page: Page, found: dict[str, Any]) -> None:
    """Add the mistakes that are ranked from logits alone."""
    page.add("h3", "From the logits alone")
    page.add("p", sentence(tried(found)))
    table = page.add("table", into=page.add("div", class_="scroll"), class_="evidence")
    head = page.add("tr", into=page.add("thead", into=table))
    for name in ("mistake", "explains", "held out", "floors left", "verdict", "what it is, and where it was seen"):
        page.add("th", name, head, scope="col")
    for row in found["ranked"]:
        line = page.add("tr", into=page.add("tbody", into=table, class_=row["verdict"]))
        page.add("th", row["mutant"], line, scope="row")
        for text in (share(row["explains"]), share(row["heldout"]), floors(row["left"])):
            page.add("td", text, line, class_="number")
        page.add("td", row["verdict"], line, class_="word")
        page.add("td", about_whole(row).replace("+-", "±"), line)


def _evidence(page: Page, rows, table) -> None:
    """Add a body to the table for each class of mistakes that this input cannot tell apart."""
    last, body = None, table
    for row in rows[:MOST_ROWS]:
        if (row["class"], row["verdict"]) != last:
            last = row["class"], row["verdict"]
            body = page.add("tbody", into=table, class_=row["verdict"])
        line = page.add("tr", into=body)
        page.add("th", row["mutant"], line, scope="row")
        page.add("td", coefficient(row).replace("+-", "±"), line, class_="number")
        page.add("td", floors(row.get("left")), line, class_="number left" if row.get("left") is not None else "number")
        page.add("td", row["verdict"], line, class_="word")
        what = page.add("td", sentence(row["what"]), line)
        page.add("span", f" {seen(row)}".rstrip(), what, class_="source")


def _rest(report, other) -> str:
    page = Page()
    page.add("h2", "Not exercised by this dump")
    page.rows("ul", report.get("coverage") or ["nothing is known to be missing"])
    if report.get("left_out"):
        page.add("h2", "Left out")
        page.rows("ul", report["left_out"])
    page.add("h2", "Not compared")
    page.rows("ul", [f"{row['name']}: {row['why']}" for row in report.get("unaligned") or []] or ["nothing"])
    bad = [f"{row['tap']}, pass {row['pass']}: {nonfinite(row)}" for row in report["taps"] if row.get("nonfinite")]
    if bad:
        page.add("h2", "Not finite")
        page.rows("ul", bad)
    for one, title in ((report, "What was judged"), (other, "The second dump")):
        if one:
            page.add("h2", title)
            block = page.add("dl")
            for name, text in judged(one):
                page.add("dt", name, block)
                page.add("dd", text or "-", block)
    return page.text()
