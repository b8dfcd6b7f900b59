"""What the report's page is given to draw: rows and profiles as small as the size of the page asks for."""

import math
from typing import Any

import numpy as np

from ref.measure.floor import LIMIT
from ref.report.figures import ORDER
from ref.report.page import as_json
from ref.report.ranks import by_rank
from ref.report.words import UNSAID

ROW = ("tap", "group", "layer", "pass", "dtype", "verdict", "why", "local", "local_floor", "local_ratio")
ROW += ("inherited", "floor", "inherited_ratio", "span", "metrics", "nonfinite", "ranks")
EVIDENCE = ("mutant", "coefficient", "stderr", "left", "class", "verdict")
EXACTLY = ("cosine", "slope", "top1", "top5", "truth")  # near 1, or wanted to the last digit
# how many neighbours of a profile are joined, in taps that match and in those that do not; 0 leaves it out
STEPS = ((1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (32, 1), (0, 1), (0, 4), (0, 32), (0, 0))

Profiles = dict[tuple[int, str], dict[str, list[float]]]


def packed(report: dict[str, Any], profiles: Profiles | None, other: dict[str, Any] | None, room: int) -> str:
    """Return the page's data as JSON that fits a number of bytes.

    Args:
        report: what `compare` returns, its texts printable.
        profiles: errors of tokens and channels of each (pass, tap), in floors; None of a saved report.
        other: the report of a second dump, or None.
        room: bytes. What does not fit is made coarser, taps that match first: neighbours are joined, their maximum
            is kept; then profiles are left out; then passes, those without a bug first.

    Returns:
        JSON without `<`, `>` or `&`, so that no text in it can end the element it stands in.
    """
    dumps = [report] + ([other] if other else [])
    groups = list(dict.fromkeys(row["group"] for one in dumps for row in one["taps"]))
    groups.sort(key=lambda group: ORDER.get(group, len(ORDER)))
    place = {group: i for i, group in enumerate(groups)}
    lines = [[(row["pass"], as_json(_row(row, place))) for row in one["taps"]] for one in dumps]
    kept = _passes_that_fit(report, lines, room)
    head = as_json(_head(report, dumps, groups, len(report["passes"]) - len(kept) if kept else 0))
    if kept:
        lines = [[(number, line) for number, line in one if number in kept] for one in lines]
    parts = ",".join(f"[{','.join(line for _, line in one)}]" for one in lines)
    rows = [row for row in report["taps"] if not kept or row["pass"] in kept]
    room -= len(head) + len(parts) + 40
    saved = str(profiles is None).lower()
    return f'{head[:-1]},"saved":{saved},"dumps":[{parts}],"profiles":[{_shapes(rows, profiles or {}, room)}]}}'


def producer_of(report: dict[str, Any]) -> str:
    """Name the producer of a dump and its version."""
    producer = report.get("producer") or {}
    name, version = (value if value != UNSAID else "" for value in map(producer.get, ("name", "version")))
    return f"{name or 'dump'} {version or ''}".strip()


def _head(report, dumps, groups: list[str], left_out: int) -> dict[str, Any]:
    return {
        "limit": LIMIT,
        "groups": groups,
        "row": ROW,
        "names": [producer_of(one) for one in dumps],
        "passes": report["passes"],
        "first": report.get("first"),
        "diagnosis": [{key: _number(row.get(key)) for key in EVIDENCE} for row in report.get("diagnosis") or []],
        "passes_left_out": left_out,
    }


def _passes_that_fit(report, lines, room: int) -> set[int]:
    """Choose passes whose rows take most of the room: the first divergence's, those with bugs, the rest. Empty: all."""
    sizes: dict[int, int] = {}
    for one in lines:
        for number, line in one:
            sizes[number] = sizes.get(number, 0) + len(line) + 1
    if sum(sizes.values()) <= room * 0.9:
        return set()
    first = (report.get("first") or {}).get("pass")
    bugs = {row["pass"] for row in report["taps"] if row["verdict"] != "match"}
    order = sorted(sizes, key=lambda number: (number != first, number not in bugs, number))
    total = np.cumsum([sizes[number] for number in order])
    return set(order[: max(1, int(np.searchsorted(total, room * 0.9)))])


def _row(row: dict[str, Any], place: dict[str, int]) -> list[Any]:
    short = row | {"group": place[row["group"]], "ranks": by_rank(row)}
    return [_number(short.get(key), key) for key in ROW]


def _shapes(rows, profiles: Profiles, room: int) -> str:
    """Write the profile of each row, at the first step that fits."""
    shapes = [profiles.get((row["pass"], row["tap"])) for row in rows]
    numbers = sum(len(values) for shape in shapes if shape for values in shape.values())
    text = ""
    for step in STEPS:
        if step[0] and 4 * numbers / step[0] > room:  # a number takes about six bytes
            continue
        several = (_profile(one, step[row["verdict"] != "match"]) for one, row in zip(shapes, rows, strict=True))
        text = ",".join(map(as_json, several))
        if len(text) <= room:
            break
    return text


def _profile(shape, step: int) -> list[Any] | bool | None:
    """Join neighbours; False where there is nothing to be shown, None where there is no room for it.

    Returns:
        Tokens, channels, how many are joined in each, how many bins there were, and of how many tokens and channels.
    """
    axes = [(shape or {}).get(axis) or [] for axis in ("tokens", "channels")]
    if not any(axes) or not step:
        return None if any(axes) else False
    bins = [len(values) for values in axes]
    sizes = [int(size) for size in (shape or {}).get("sizes") or bins]
    return [*(_joined(values, step) for values in axes), step, bins, sizes]


def _joined(values: list[float], step: int) -> list[Any]:
    if not values:
        return []
    largest = np.maximum.reduceat(np.asarray(values, np.float64), range(0, len(values), step))  # NaN stays NaN
    return [_number(value, digits=3) for value in largest.tolist()]


def _number(value: Any, key: str = "", digits: int = 4) -> Any:
    """Round a number, or those inside; what JSON has no word for becomes `inf`, `-inf` or `nan`."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return float(f"{value:.{9 if key in EXACTLY else digits}g}")
    return {name: _number(item, name) for name, item in value.items()} if isinstance(value, dict) else value
