"""Numbers as the reports write them: multiples of the floor, values with their errors, layers, counts."""

import math
import re
from collections.abc import Iterable
from typing import Any

from ref.hypotheses.lists import and_more, spans_of
from ref.model.taps import tap_group, tap_names

DIFFERS = "differs"  # of a value that is exact: how many floors that is cannot be said
PLAIN = re.compile(r"(?!Gemma|Llama)[A-Z][a-z]*(?![A-Za-z])")  # a first word that is written small inside a sentence
ORDER = {tap_group(name): i for i, name in enumerate(tap_names(1, cached=True, vision_layers=1))}


def floors(value: float | None) -> str:
    """Write a multiple of the floor: three digits; `-` where there is none, `differs` of what has to be equal."""
    if value is None:
        return "-"
    if value == float("inf"):
        return DIFFERS
    if value != value or value == float("-inf") or value == 0:
        return f"{value:g}"
    if value < 0.005:
        return "<0.01"
    return f"{value:.2f}" if value < 10 else f"{value:.3g}" if value < 1000 else f"{value:.1e}"


def in_floors(value: float | None) -> str:
    """Say a multiple of the floor: `41.2 floors`, `differs`."""
    return floors(value) if value == float("inf") else f"{floors(value)} floors"


def counted(number: int, noun: str) -> str:
    """Write a number of things: `1 pass`, `2 passes`."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number} {noun if number == 1 else plural}"


def worst_of(rows: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return the row whose number is the largest; the first of several. None is less than any, NaN more.

    Args:
        rows: taps of a report, at least one.
        key: `local_ratio` or `inherited_ratio`.
    """

    def size(row):
        value = row.get(key)
        return -1.0 if value is None else float("inf") if value != value else value

    return max(rows, key=size)


def by_group(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Fold the layers and passes of taps: group -> its rows, groups in the order of execution."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    return dict(sorted(groups.items(), key=lambda item: ORDER.get(item[0], len(ORDER))))


def sentence(text: str) -> str:
    """End a text with one full stop."""
    return text.rstrip(". ") + "."


def plain(what: str) -> str:
    """Write what a mistake is as a part of a sentence: no capital, no full stop."""
    what = re.sub(r"\.{4,}", "...", re.sub(r"\b(\d+)\.\.\1\b", r"\1", what))
    what = what if what.endswith("...") else what.rstrip(". ")
    return what[0].lower() + what[1:] if PLAIN.match(what) else what


def coefficient(row: dict[str, Any]) -> str:
    """Write a coefficient and its standard error, to the error's own digits: `0.9998 +- 0.0003`, `0.94 +- 0.11`.

    An error below half a millionth tells no more than that there is next to none: `1.000000`.
    """
    c, stderr = row.get("coefficient"), row.get("stderr")
    if c is None:
        return "-"
    if stderr is None or not 0 < stderr < 1e5 or abs(c) >= 1e5:
        return f"{c:.4g}" if not stderr else f"{c:.4g} +- {stderr:.1g}"
    if stderr < 5e-7:
        return f"{c:.6f}"
    digits = min(6, max(0, math.ceil(-math.log10(stderr / 2))))  # one more where the error begins with a 1
    return f"{c:.{digits}f} +- {stderr:.{digits}f}"


def nonfinite(row: dict[str, Any]) -> str:
    """Say where a tap's first value that is NaN or infinite stands, and what it ought to be."""
    one = row["nonfinite"]
    truth = "-" if one.get("truth") is None else f"{one['truth']:.4g}"
    where = f"the first at token {one['token']}, channel {one['channel']}"
    return f"{counted(one['count'], 'value')} NaN or infinite, {where}; the truth there is {truth}"


def with_error(value: float, stderr: float | None) -> str:
    """Write a number to the digits of its standard error: `0.13249 +- 0.00003`; to six where it has none."""
    if stderr is None or not 0 < stderr < math.inf or not value:
        return f"{value:.6g}"
    digits = min(9, max(1, math.ceil(math.log10(abs(value) / stderr)) + 1))
    return f"{value:.{digits}g} +- {stderr:.1g}"


def runs_of(numbers: Iterable[int], most: int = 6) -> str:
    """Write ascending integers as ranges: `0..4, 6, 8`; what is beyond `most` of them is counted."""
    said: list[str] = []
    for first, last in spans_of(numbers):  # two neighbours are no range
        said += [f"{first}..{last}"] if last - first > 1 else map(str, range(first, last + 1))
    return and_more(said, most)


def percent(share: float) -> str:
    """Write a share: `5.5 %`."""
    if 0 < share < 1e-6:
        return "less than 0.0001 %"
    return f"{100 * share:.{2 if share < 1 else 3}g} %"
