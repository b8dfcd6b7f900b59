"""What a terminal shows of the causes: a block each, the proof, other bases, and what was tried."""

import textwrap
from collections.abc import Iterator
from typing import Any

from ref.report.bases import basis_words, tried_words
from ref.report.causes import PROOF, cause_facts, cause_words

MOST_CAUSES = 8


def wrapped(text: str, width: int, first: str = "  ", rest: str = "    ") -> list[str]:
    """Break a text into lines.

    Args:
        text: one paragraph.
        width: of a line.
        first, rest: what the first line and the others begin with.
    """
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def causes_in_lines(report: dict[str, Any], width: int) -> Iterator[str]:
    """Write what is wrong and why, for a terminal.

    Args:
        report: what `compare` returns, its texts printable.
        width: of a line.
    """
    causes, proof = report.get("causes") or [], report.get("proof")
    if causes:
        yield "causes, the one that moves the logits most first" if len(causes) > 1 else "cause"
    for number, cause in enumerate(causes[:MOST_CAUSES], 1):
        lead = f"  {number}. " if len(causes) > 1 else "  "
        yield from wrapped(cause_words(cause, report), width, lead, "      ")
        for name, text in cause_facts(cause, report):
            yield from wrapped(f"{name}: {text}", width, "      ", "        ")
    if len(causes) > MOST_CAUSES:
        yield f"  and {len(causes) - MOST_CAUSES} more"
    if proof:
        yield from wrapped(f"{PROOF}: {proof['says']}", width, "")
    bases = basis_words(report.get("bases") or [], report)
    if bases:
        yield "in another basis, and rightly so"
    for one in bases:
        yield from wrapped(one, width)
    for one in tried_words(report.get("tried") or {"catalogue": 0, "families": [], "not_tried": []}):
        yield from wrapped(one, width, "")
