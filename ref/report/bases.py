"""Other bases in which a port rightly keeps values, and what was tried, in plain words."""

import re
from collections.abc import Iterable
from typing import Any

from ref.report.causes import in_layers, short
from ref.report.figures import counted, plain


def basis_words(rows: Iterable[dict[str, Any]], report: dict[str, Any]) -> list[str]:
    """Say in which other bases a port keeps its values, rightly so: each kind once, with its layers.

    Args:
        rows: a report's `bases`. Those that differ in numbers only are one kind.
        report: the report.
    """
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        places = dict.fromkeys(short(tap) for tap in (row["cancels_at"] or row["taps"]))
        kinds.setdefault((_kind(row["what"]), *places), []).append(row)
    return [_kind_words(kind, same, report) for kind, same in kinds.items()]


def _kind_words(kind: tuple[str, ...], rows: list[dict[str, Any]], report: dict[str, Any]) -> str:
    several = list(dict.fromkeys(plain(row["what"]) for row in rows))
    what = several[0] if len(several) == 1 else re.split(r"[:,] ", several[0])[0]
    layers = sorted({layer for row in rows for layer in row["layers"]})
    taps = [tap for row in rows for tap in row["taps"]]
    cancels = "; cancels at " + ", ".join(kind[1:]) if any(row["cancels_at"] for row in rows) else ""
    what += ", and the like," if len(several) > 1 and re.search(r"\d", what) else ""
    return what + in_layers(layers, taps, report) + cancels


def _kind(what: str) -> str:
    return re.sub(r"[\d.]+", "#", re.split(r"[:,] ", what)[0]).rstrip("#")


def tried_words(tried: dict[str, Any]) -> list[str]:
    """Say what was tried at the wrong taps, and what could not be tried and why; nothing where nothing was wrong."""
    said = []
    if tried["catalogue"]:
        said.append(counted(tried["catalogue"], "known mistake"))
    if tried["families"]:
        kinds = f"{counted(len(tried['families']), 'kind')} with numbers to be fitted"
        said.append(f"{kinds}: {', '.join(tried['families'])}")
    lines = [f"tried: {'; '.join(said)}"] if said else []
    return lines + [f"not tried: {one['family']}: {one['why']}" for one in tried["not_tried"]]
