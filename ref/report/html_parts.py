"""Parts of the report's page: elements whose texts are escaped, and what is wrong and why."""

from typing import Any
from xml.etree import ElementTree

from ref.report.bases import basis_words, tried_words
from ref.report.causes import PROOF, cause_facts, cause_words
from ref.report.figures import sentence

MOST_ROWS = 200  # of a list of names
MOST_CAUSES = 50


class Page:
    """Elements written one below the other; ElementTree escapes every text."""

    def __init__(self) -> None:
        self.root = ElementTree.Element("div")

    def add(
        self, tag: str, text: str | None = None, into: ElementTree.Element | None = None, **attributes: str
    ) -> ElementTree.Element:
        """Add an element with a text; `class_` is the attribute class."""
        named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        element = ElementTree.SubElement(self.root if into is None else into, tag, named)
        element.text = text
        return element

    def rows(self, kind: str, texts: list[str], into: ElementTree.Element | None = None, **attributes: str) -> None:
        """Add a list, cut where it is too long to be read."""
        block = self.add(kind, into=into, **attributes)
        for text in texts[:MOST_ROWS]:
            self.add("li", text, block)
        if len(texts) > MOST_ROWS:
            self.add("li", f"and {len(texts) - MOST_ROWS} more", block)

    def text(self) -> str:
        """Return the HTML."""
        return "".join(ElementTree.tostring(one, encoding="unicode", method="html") for one in self.root)


def causes_in_html(report: dict[str, Any]) -> str:
    """Write the section of the causes: a block each, the proof, other bases, and what was tried.

    Args:
        report: what `compare` returns, its texts printable.

    Returns:
        HTML; empty where nothing was wrong and nothing is in another basis.
    """
    page, causes = Page(), report.get("causes") or []
    bases = basis_words(report.get("bases") or [], report)
    if not (causes or bases):
        return ""
    section = page.add("section", id="causes", aria_labelledby="causes-title")
    title = "What is wrong" if causes else "In another basis, and rightly so"
    page.add("h2", title, section, id="causes-title")
    if len(causes) > 1:
        page.add("p", "The cause that moves the logits most stands first.", section, class_="hint")
    blocks = page.add("ol", into=section, class_="causes")
    for cause in causes[:MOST_CAUSES]:
        _cause(page, cause, report, page.add("li", into=blocks))
    if len(causes) > MOST_CAUSES:
        page.add("p", f"and {len(causes) - MOST_CAUSES} more", section)
    proof = report.get("proof")
    if proof:
        page.add("p", sentence(f"{PROOF.capitalize()}: {proof['says']}"), section, class_=f"proof {proof['verdict']}")
    if bases and causes:
        page.add("h3", "In another basis, and rightly so", section)
    if bases:
        page.rows("ul", bases, section)
    for text in tried_words(report["tried"]):
        page.add("p", sentence(text[0].upper() + text[1:]), section, class_="hint")
    return page.text()


def _cause(page: Page, cause: dict[str, Any], report: dict[str, Any], into: ElementTree.Element) -> None:
    page.add("h3", sentence(cause_words(cause, report)).replace("+-", "±"), into)
    block = page.add("dl", into=into)
    for name, text in cause_facts(cause, report):
        page.add("dt", name, block)
        page.add("dd", text.replace("+-", "±"), block)
