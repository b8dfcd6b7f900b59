"""A report beside an earlier one of the same prompt: what moved, in floors, by more than another machine moves it."""

import math
from collections.abc import Iterator
from typing import Any

from ref.report.figures import DIFFERS, counted, floors
from ref.report.noise import NOISE as NOISE

KINDS = ("worse", "better", "changed", "came", "went", "same")  # of a tap; changed: its verdict, in neither direction
KEPT = ("verdict", "policy", "weights", "producer", "passes")
TAP = ("tap", "pass", "verdict", "local_ratio", "inherited_ratio")
BADNESS = {"match": 0, "undetermined": 1, "bug": 2}


def reduced(report: dict[str, Any]) -> dict[str, Any]:
    """Return what of a report is needed to set a later one beside it: some kilobytes of hundreds.

    Args:
        report: what `compare` returns.
    """
    causes = [{"mutant": one["mutant"]} for one in report["causes"]]
    taps = [{key: row[key] for key in TAP} for row in report["taps"]]
    return {key: report[key] for key in KEPT} | {"causes": causes, "taps": taps}


def set_beside(before: dict[str, Any], now: dict[str, Any], baseline: str, noise: float = NOISE) -> dict[str, Any]:
    """Say what moved between two reports, as the key `regression` of the later one.

    Args:
        before: the earlier report, whole or `reduced`.
        now: the later one.
        baseline: what the earlier one is called.
        noise: floors that a tap may move by; of one that is more than 1 floor off both times, as much times its error.

    Returns:
        As golden/schema/report.schema.json says. Where weights, arithmetic or prompt are others, no tap is compared:
        the floors are others as well.

    Source: own.
    """
    why = list(_differences(before, now))
    rows = [] if why else _in_order(list(_rows(before, now, noise)))
    counts = {kind: sum(row["what"] == kind for row in rows) for kind in KINDS}
    verdicts = {"before": before["verdict"], "now": now["verdict"]}
    head = {"baseline": baseline, "comparable": not why, "why": why, "verdict": verdicts, "noise": noise}
    return head | counts | {"changed_beside": list(_changes(before, now)), "taps": rows}


def refused(baseline: str, why: str, now: dict[str, Any], noise: float = NOISE) -> dict[str, Any]:
    """Say that there is nothing to be set beside a report, and why: the baseline lacks it, or cannot be read.

    Args:
        baseline: what the earlier one is called.
        why: a line.
        now: the later report.
        noise: as `set_beside`.
    """
    verdicts = {"before": None, "now": now["verdict"]}
    head = {"baseline": baseline, "comparable": False, "why": [why], "verdict": verdicts, "noise": noise}
    return head | dict.fromkeys(KINDS, 0) | {"changed_beside": [], "taps": []}


def in_words(one: dict[str, Any]) -> str:
    """Say in a line what moved.

    Args:
        one: the key `regression` of a report.
    """
    name = one["baseline"]
    if not one["comparable"]:
        return f"not comparable with the baseline {name}: {'; '.join(one['why'])}"
    words = {"worse": "worse", "better": "better", "changed": "changed", "came": "new", "went": "gone"}
    there = [(one[kind], word) for kind, word in words.items() if one[kind]]
    said = [f"{counted(count, 'tap') if i == 0 else count} {word}" for i, (count, word) in enumerate(there)]
    nothing = f"nothing moved by more than {one['noise']:g} floors"
    return f"beside the baseline {name}: {', '.join(said) or nothing}"


def moved_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """List the taps that are not as they were, changes of a verdict first; none where no baseline was given.

    Args:
        report: what `compare` returns.
    """
    return [row for row in (report.get("regression") or {"taps": []})["taps"] if row["what"] != "same"]


def moved_words(row: dict[str, Any]) -> str:
    """Say how a tap moved: `0.91 -> 41.2 floors (+40.3), match -> bug`.

    Args:
        row: a tap of the key `regression`.
    """
    said = f"{value_words(row['before'])} -> {value_words(row['now'])}"
    said += f" floors ({value_words(row['moved'], True)})" if isinstance(row["moved"], (int, float)) else ""
    return f"{said}, {verdict_words(row)}"


def value_words(value: float | str | None, sign: bool = False) -> str:
    """Write a ratio of a row, or with a sign by how much it moved."""
    if isinstance(value, str) or value is None:
        return value or "-"
    return f"{'-' if value < 0 else '+'}{floors(abs(value))}" if sign else floors(value)


def verdict_words(row: dict[str, Any]) -> str:
    """Write the verdicts of a row: `match -> bug`, `bug`, `came: match`."""
    was, now = row["verdict_before"], row["verdict_now"]
    if was is None or now is None:
        return f"new: {now}" if was is None else f"gone: was {was}"
    return was if was == now else f"{was} -> {now}"


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield what makes two reports incomparable."""
    a, b = before["weights"], now["weights"]
    if not _same_digests(a, b):
        yield from _unlike("weights", _short(a["judged_against"]), _short(b["judged_against"]))
    yield from _unlike("weights held as", a["held_as"], b["held_as"])
    yield from _unlike("adapter", (a.get("adapter") or {}).get("name"), (b.get("adapter") or {}).get("name"))
    a, b = before["policy"], now["policy"]
    for key in sorted((a.keys() | b.keys()) - {"torch"}):  # its settings of threads and kernels are no arithmetic
        yield from _unlike(key.replace("_", " "), a.get(key), b.get(key))
    yield from _unlike("prompt", *_prompts(before["passes"], now["passes"]))


def _unlike(what: str, before: Any, now: Any) -> Iterator[str]:
    if before != now:
        yield f"{what}: {'none' if before is None else before} before, {'none' if now is None else now} now"


def _same_digests(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Tell whether both dumps gave digests of their weights' tensors, and the same: then their name says nothing."""
    return bool(a.get("sha256")) and a.get("sha256") == b.get("sha256")


def _short(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def _prompts(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> tuple[str, str]:
    """Write what is known of two prompts, alike if they are the same; earlier reports know only their lengths."""
    known = all(one.get("prompt") for one in (*before, *now))

    def said(one):
        return f"{one['ids']} tokens after {one['cached']}" + (f", digest {one['prompt']}" if known else "")

    if len(before) != len(now):
        return counted(len(before), "pass"), counted(len(now), "pass")
    pairs = [(said(a), said(b)) for a, b in zip(before, now, strict=True)]
    number = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
    a, b = pairs[number] if pairs else ("", "")
    return f"pass {number} of {a}", f"pass {number} of {b}"


def _changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield what changed beside the taps: the producer, and which mistakes came or went."""
    names = [" ".join(str(one["producer"].get(key) or "") for key in ("name", "version")) for one in (before, now)]
    yield from _unlike("producer", *(name.strip() or None for name in names))
    a, b = ({one["mutant"] for one in report["causes"] if one["mutant"]} for report in (before, now))
    yield from (f"mistake that came: {name}" for name in sorted(b - a))
    yield from (f"mistake that went: {name}" for name in sorted(a - b))


def _rows(before: dict[str, Any], now: dict[str, Any], noise: float) -> Iterator[dict[str, Any]]:
    old = {(row["pass"], row["tap"]): row for row in before["taps"]}
    new = {(row["pass"], row["tap"]): row for row in now["taps"]}
    for place in new | old:  # in the order of execution; what went stands last
        yield _row(place, old.get(place), new.get(place), noise)


def _row(place: tuple[int, str], old: dict[str, Any] | None, new: dict[str, Any] | None, noise: float):
    a, b = _ratios(old, new)
    verdicts = [one and one["verdict"] for one in (old, new)]
    moved = None if a is None or b is None else 0.0 if a == b else b - a
    what = "came" if old is None else "went" if new is None else _kind(verdicts, a, b, noise)
    row: dict[str, Any] = {"tap": place[1], "pass": place[0], "what": what, "before": _value(a), "now": _value(b)}
    return row | {"moved": _value(moved), "verdict_before": verdicts[0], "verdict_now": verdicts[1]}


def _ratios(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[float | None]:
    """Return the local errors of both, in floors; from the prompt on where one has no local error. NaN is infinite."""
    both = [one for one in (old, new) if one]
    key = "inherited_ratio" if any(one["local_ratio"] is None for one in both) else "local_ratio"
    values = [one[key] if one else None for one in (old, new)]
    return [math.inf if value is not None and value != value else value for value in values]


def _kind(verdicts: list[Any], a: float | None, b: float | None, noise: float) -> str:
    rise = BADNESS[verdicts[1]] - BADNESS[verdicts[0]]
    if rise:
        return "worse" if rise > 0 else "better" if verdicts[1] == "match" else "changed"
    if a is None or b is None or a == b:
        return "same"
    least = min(a, b)
    return "same" if abs(b - a) <= noise * max(1.0, least) else "worse" if b > a else "better"


def _value(value: float | None) -> float | str | None:
    """Put a word in the place of a number that JSON has none for: what has to be equal is not."""
    return value if value is None or math.isfinite(value) else DIFFERS


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put changes of a verdict first, the worse before the better; then what moved most; what is the same last."""

    def key(row):
        both = row["verdict_before"] and row["verdict_now"]
        if both and row["verdict_before"] != row["verdict_now"]:
            return (0, KINDS.index(row["what"]), 0.0)
        moved = row["moved"]
        size = 0.0 if moved is None else math.inf if moved == DIFFERS else abs(moved)
        return (1, KINDS.index(row["what"]), 0.0 if row["what"] == "same" else -size)

    return sorted(rows, key=key)  # stable: else in the order of execution
