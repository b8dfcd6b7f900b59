"""What the report's page is given to draw: rows and profiles as small as the size of the page asks for."""

import json
import math
from collections.abc import Iterator
from typing import Any

from ref.verify.floor import LIMIT
from ref.verify.report_words import ORDER

ROW = ("tap", "group", "layer", "pass", "dtype", "verdict", "why", "local", "local_floor", "local_ratio")
ROW += ("inherited", "floor", "inherited_ratio", "span", "metrics", "nonfinite")
EXACTLY = ("cosine", "slope", "top1", "top5", "truth")  # near 1, or wanted to the last digit
# how many neighbours of a profile are joined, in taps that match and in those that do not; 0 leaves it out
STEPS = ((1, 1), (2, 1), (4, 1), (8, 1), (32, 1), (0, 1), (0, 4), (0, 32), (0, 0))

Profiles = dict[tuple[int, str], dict[str, list[float]]]


def packed(report: dict[str, Any], profiles: Profiles, other: dict[str, Any] | None, room: int) -> str:
    """Return the page's data as JSON that fits a number of bytes.

    Args:
        report: what `compare` returns, its texts printable.
        profiles: errors of tokens and channels of each (pass, tap), in floors.
        other: the report of a second dump, or None.
        room: bytes. What does not fit is made coarser, taps that match first: neighbours are joined, their maximum
            is kept; then profiles are left out; then passes, those without a bug first.

    Returns:
        JSON without `<`, `>` or `&`, so that no text in it can end the element it stands in.
    """
    for step in _steps(profiles, room):
        text = _json(_content(report, other, profiles, step, 0))
        if len(text) <= room:
            return text
    keep = _by_need(report)
    while len(keep) > 1:
        keep = keep[: max(1, len(keep) * 2 // 3)]
        a, b = (one and one | {"taps": [r for r in one["taps"] if r["pass"] in keep]} for one in (report, other))
        text = _json(_content(a, b, profiles, (0, 32), len(report["passes"]) - len(keep)))
        if len(text) <= room:
            break
    return text


def _steps(profiles: Profiles, room: int) -> Iterator[tuple[int, int]]:
    """Skip steps that cannot fit: a number is about six bytes."""
    numbers = sum(len(values) for one in profiles.values() for values in one.values())
    for step in STEPS:
        if not step[0] or 4 * numbers / step[0] <= room:
            yield step


def _by_need(report) -> list[int]:
    """Order the passes: the first divergence's, those with bugs, the rest."""
    first = (report.get("first") or {}).get("pass")
    bugs = {row["pass"] for row in report["taps"] if row["verdict"] != "match"}
    numbers = dict.fromkeys(row["pass"] for row in report["taps"])
    return sorted(numbers, key=lambda number: (number != first, number not in bugs, number))


def _content(report, other, profiles: Profiles, step: tuple[int, int], left_out: int) -> dict[str, Any]:
    dumps = [report] + ([other] if other else [])
    groups = list(dict.fromkeys(row["group"] for one in dumps for row in one["taps"]))
    groups.sort(key=lambda group: ORDER.get(group, len(ORDER)))
    place = {group: i for i, group in enumerate(groups)}
    shapes = [
        _profile(profiles.get((row["pass"], row["tap"])), step[row["verdict"] != "match"]) for row in report["taps"]
    ]
    evidence = ("mutant", "coefficient", "stderr", "left", "class", "verdict")
    return {
        "limit": LIMIT,
        "groups": groups,
        "row": ROW,
        "dumps": [[_row(row, place) for row in one["taps"]] for one in dumps],
        "names": [producer_of(one) for one in dumps],
        "profiles": shapes,
        "passes": report["passes"],
        "first": report.get("first"),
        "diagnosis": [{key: _number(row.get(key)) for key in evidence} for row in report["diagnosis"]],
        "passes_left_out": left_out,
    }


def producer_of(report: dict[str, Any]) -> str:
    """Name the producer of a dump and its version."""
    producer = report.get("producer") or {}
    return f"{producer.get('name') or 'dump'} {producer.get('version') or ''}".strip()


def _row(row: dict[str, Any], place: dict[str, int]) -> list[Any]:
    short = row | {"group": place[row["group"]]}
    return [_number(short.get(key), key) for key in ROW]


def _profile(shape, step: int) -> list[Any] | None:
    if not shape or not step:
        return None
    axes = [shape.get(axis) or [] for axis in ("tokens", "channels")]
    joined = [[_largest(values[i : i + step]) for i in range(0, len(values), step)] for values in axes]
    return [*joined, step, [len(values) for values in axes]]


def _largest(values: list[float]) -> Any:
    bad = [value for value in values if value is None or value != value]
    return _number(bad[0] if bad else max(values), digits=3)


def _number(value: Any, key: str = "", digits: int = 4) -> Any:
    """Round a number, or those inside; what JSON has no word for becomes `inf`, `-inf` or `nan`."""
    if isinstance(value, dict):
        return {name: _number(item, name) for name, item in value.items()}
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return float(f"{value:.{9 if key in EXACTLY else digits}g}")
    return value


def _json(content: dict[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
