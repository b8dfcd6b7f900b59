"""The report as a terminal table: groups of taps, what was not exercised, the diagnosis; the verdict comes last."""

import textwrap
from collections.abc import Iterator
from typing import Any

from ref.model.taps import tap_group, tap_names

WIDTH = 120
MOST_ROWS = 6  # single taps below their group's line: an error in every layer needs no more to be seen
MOST_NAMES = 20
LONGEST = 300  # characters of a name or sentence that came with a dump
ORDER = {tap_group(name): i for i, name in enumerate(tap_names(1, cached=True, vision_layers=1))}


def printable(value: Any) -> Any:
    r"""Return a report whose texts are safe to print: what is not a printable character becomes its escape.

    Args:
        value: a report, or a part of one. Names come from other people's files: they may hold control characters,
            terminal sequences, characters that reverse the line, lone surrogates.

    Returns:
        The same, with `\x1b` in the place of an escape character; texts longer than 300 characters are cut.
    """
    if isinstance(value, str):
        cut = value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    if isinstance(value, dict):
        return {printable(key) if isinstance(key, str) else key: printable(item) for key, item in value.items()}
    return [printable(item) for item in value] if isinstance(value, (list, tuple)) else value


def floors(value: float | None) -> str:
    """Write a multiple of the floor: three digits; `-` where there is none."""
    if value is None:
        return "-"
    if value != value or value in (float("inf"), float("-inf")) or value == 0:
        return f"{value:g}"
    if value < 0.005:
        return "<0.01"
    return f"{value:.2f}" if value < 10 else f"{value:.3g}" if value < 1000 else f"{value:.1e}"


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


def render_text(report: dict[str, Any], width: int | None = None, everything: bool = False) -> str:
    """Render a report for a terminal.

    Args:
        report: what `compare` returns.
        width: columns; None is 120. The last line, the verdict, is one line whatever its length, for `tail -1`.
        everything: a line for every tap, not only for the groups and for taps that are a bug or undetermined.

    Returns:
        Lines without a newline at the end. Columns `x floor` are errors in multiples of the noise floor.

    Source: own; README, "What `compare` shows".
    """
    report, width = printable(report), max(60, width or WIDTH)
    lines = [*_table(report, width, everything), *_unaligned(report, width), *_coverage(report, width)]
    lines += [*_diagnosis(report, width), *_fits(report, width), *_decide(report, width), *_nonfinite(report, width)]
    return "\n".join(line.rstrip() for line in [*lines, verdict_line(report)])


def _wrap(text: str, width: int, first: str = "  ", rest: str = "    ") -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


HEAD = (
    f"  {'tap':<32}{'local':>9}{'floor':>9}{'x floor':>9}{'inherited':>11}{'floor':>9}{'x floor':>9}  {'verdict':<13}"
)


def _table(report, width: int, everything: bool) -> Iterator[str]:
    narrow = width < WIDTH
    yield _narrowed(HEAD, narrow) + ("  worst at" if narrow else "worst at")
    for group, rows in by_group(report["taps"]).items():
        local, inherited = worst_of(rows, "local_ratio"), worst_of(rows, "inherited_ratio")
        words = [row["verdict"] for row in rows]
        word = next((one for one in ("bug", "undetermined") if one in words), "match")
        count = f" {words.count(word)}/{len(words)}" if len(words) > 1 and word != "match" else ""
        shown = word if not count else f"{word[:6]}{count}"
        yield _line(group, local, inherited, shown, _place(local, len(rows) > 1), width)
        singles = [row for row in rows if everything or row["verdict"] != "match"]
        if len(rows) > 1 or any(row["why"] for row in singles):
            most = len(singles) if everything or len(singles) <= MOST_ROWS else MOST_ROWS - 1
            for row in singles[:most]:
                place = ", ".join(one for one in (f"pass {row['pass']}", row["why"]) if one)
                yield _line("  " + row["tap"], row, row, row["verdict"], place, width)
            if most < len(singles):
                yield f"    and {len(singles) - most} more"


def _narrowed(line: str, narrow: bool) -> str:
    """Leave out the distances and floors: only their ratios and the verdict fit a narrow terminal."""
    return line[:34] + line[52:61] + line[81:90] + line[90:105] if narrow else line


def _line(name: str, local, inherited, word: str, place: str, width: int) -> str:
    numbers = _numbers(local, "local", "local_floor", "local_ratio", 9)
    numbers += _numbers(inherited, "inherited", "floor", "inherited_ratio", 11)
    name = name if len(name) <= 32 else name[:31] + "…"
    line = _narrowed(f"  {name:<32}{numbers}  {word:<13}", width < WIDTH)
    room = width - len(line)
    return line + (place if len(place) <= room else place[: max(0, room - 1)] + "…")


def _numbers(row, distance: str, floor: str, ratio: str, columns: int) -> str:
    if row.get(distance) is None:
        return f"{'-':>{columns}}{'-':>9}{floors(row.get(ratio)):>9}"
    least = f"{row[floor]:.1e}" if row[floor] else "exact"
    return f"{row[distance]:>{columns}.1e}{least:>9}{floors(row[ratio]):>9}"


def _place(row, several: bool) -> str:
    layer = "" if row["layer"] is None or not several else f"layer {row['layer']} "
    return f"{layer}pass {row['pass']}"


def _unaligned(report, width: int) -> Iterator[str]:
    rows = report.get("unaligned") or []
    if rows:
        yield f"not compared: {counted(len(rows), 'tensor')} of the dump"
    for row in rows[:MOST_NAMES]:
        yield from _wrap(f"{row['name']}: {row['why']}", width)
    if len(rows) > MOST_NAMES:
        yield f"  and {len(rows) - MOST_NAMES} more"


def _coverage(report, width: int) -> Iterator[str]:
    if report.get("coverage"):
        yield "not exercised by this dump"
    for line in report.get("coverage") or []:
        yield from _wrap(line, width)


def _diagnosis(report, width: int) -> Iterator[str]:
    rows = report.get("diagnosis") or []
    if not rows:
        return
    where = rows[0].get("tap") or (report["first"] or {}).get("tap") or "the first bug"
    yield f"diagnosis of {where}: each known mistake was run on the dump's own inputs; 1 is this mistake, 0 is without"
    yield f"  {'mistake':<32}{'coefficient':>22}{'left':>9}  verdict"
    shown = [row for row in rows if row["verdict"] in ("named", "tied")]
    other = [row for row in rows if row["verdict"] == "undetermined"]
    for row in [*shown, *other[: MOST_ROWS if not shown else 2]]:
        word = row["verdict"] if row["verdict"] != "tied" else f"tied ({row['class']})"
        name = row["mutant"] if len(row["mutant"]) <= 31 else row["mutant"][:30] + "…"
        yield f"  {name:<32}{coefficient(row):>22}{floors(row['left']):>9}  {word}"
        yield from _wrap(f"{row['what']} Source: {row['source']}.".replace("..", "."), width, "      ", "      ")
    cleared = [row["mutant"] for row in rows if row["verdict"] == "cleared"]
    if len(tied := [row for row in shown if row["verdict"] == "tied"]) > 1:
        yield f"  this input cannot tell the {len(tied)} tied mistakes apart"
    if cleared:
        names = ", ".join(cleared[:MOST_NAMES]) + (", ..." if len(cleared) > MOST_NAMES else "")
        yield from _wrap(f"cleared: {len(cleared)}: {names}", width)


def coefficient(row: dict[str, Any]) -> str:
    """Write a mutant's coefficient and its standard error, to the error's own digits: `0.9998 +- 0.0003`."""
    c, stderr = row.get("coefficient"), row.get("stderr")
    if c is None:
        return "-"
    if stderr is None or not 0 < stderr < 10 or abs(c) >= 1e5:
        return f"{c:.4g}" if not stderr else f"{c:.4g} +- {stderr:.1g}"
    digits = next((n for n in range(1, 8) if round(stderr, n) > 0), 8)
    return f"{c:.{digits}f} +- {stderr:.{digits}f}"


def _fits(report, width: int) -> Iterator[str]:
    if report.get("fits"):
        yield "simple changes of the truth that come near"
    for row in report.get("fits") or []:
        yield from _wrap(f"{row['kind']}: {row['what']}: {floors(row['left'])} floors left", width)


def _decide(report, width: int) -> Iterator[str]:
    if report.get("decide"):
        yield from _wrap(f"what would decide: {report['decide']}", width, "")


def _nonfinite(report, width: int) -> Iterator[str]:
    rows = [row for row in report["taps"] if row.get("nonfinite")]
    if rows:
        yield f"not finite: {counted(len(rows), 'tap')}"
    for row in rows[:MOST_ROWS]:
        yield from _wrap(f"{row['tap']} (pass {row['pass']}): {nonfinite(row)}", width)
    if len(rows) > MOST_ROWS:
        yield f"  and {len(rows) - MOST_ROWS} more"


def nonfinite(row: dict[str, Any]) -> str:
    """Say where a tap's first value that is NaN or infinite stands, and what it ought to be."""
    one = row["nonfinite"]
    truth = "-" if one.get("truth") is None else f"{one['truth']:.4g}"
    where = f"the first at token {one['token']}, channel {one['channel']}"
    return f"{counted(one['count'], 'value')} NaN or infinite, {where}; the truth there is {truth}"


def verdict_line(report: dict[str, Any]) -> str:
    """Say the verdict, the first divergence and what it looks like, in one line.

    Args:
        report: what `compare` returns; its texts are taken as they are.
    """
    rows, first = report["taps"], report.get("first")
    row = find_row(report)
    if report["verdict"] == "match":
        worst = worst_of(rows, "local_ratio")
        values = f"{counted(len(rows), 'value')} of {counted(len(report.get('passes') or [0]), 'pass')}"
        return f"verdict: match: {values}, at most {floors(worst['local_ratio'])} floors ({worst['tap']})"
    if not first:
        if row is None:
            return f"verdict: {report['verdict']}: nothing was compared"
        count = sum(one["verdict"] == report["verdict"] for one in rows)
        why = f": {row['why']}" if row["why"] else ""
        return f"verdict: {report['verdict']}: {count} of {len(rows)}, first {row['tap']} (pass {row['pass']}){why}"
    tail = [f"{floors(row['local_ratio'])} floors"] if row and row["local_ratio"] is not None else []
    tail = [row["why"]] if row and row["why"] else tail
    what = "; ".join([*tail, looks_like(report)])
    return f"verdict: {report['verdict']}, first at {first['tap']} (pass {first['pass']}): {what}"


def find_row(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return the tap of the first divergence, or else the first that has the report's verdict."""
    first = report.get("first")
    for row in report["taps"]:
        here = first and (row["tap"], row["pass"]) == (first["tap"], first["pass"])
        if here or (not first and row["verdict"] == report["verdict"]):
            return row
    return None


def looks_like(report: dict[str, Any]) -> str:
    """Say which known mistake it is, which ones are tied, or that no known mistake explains it."""
    rows = report.get("diagnosis") or []
    best = [row for row in rows if row["verdict"] in ("named", "tied")]
    if not best:
        return "as if: no mistake that is known here"
    if len(best) > 1:
        return f"as if one of: {', '.join(row['mutant'] for row in best)} (c = {coefficient(best[0])})"
    return f"as if: {best[0]['mutant']} (c = {coefficient(best[0])}): {best[0]['what']}"
