"""Words and numbers that the reports share: safe texts, multiples of the floor, coefficients, the verdict in a line."""

import math
from typing import Any

from ref.model.taps import tap_group, tap_names
from ref.report.words_logits import NEAREST, labelled, share

UNSAID = "not said"  # what readers write where a dump does not say a thing
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


def sentence(text: str) -> str:
    """End a text with one full stop."""
    return text.rstrip(". ") + "."


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


def verdict_line(report: dict[str, Any]) -> str:
    """Say the verdict, the first divergence and what it looks like, in one line.

    Args:
        report: what `compare` returns; its texts are taken as they are.
    """
    rows, first = report["taps"], report.get("first")
    row = find_row(report)
    if row is None:
        return f"verdict: {report['verdict']}: nothing was compared"
    if report["verdict"] == "match":
        worst = worst_of(rows, "local_ratio")
        if len(rows) == 1 and worst["local_ratio"] is None and worst["why"]:  # an answer: nothing of it is local
            return f"verdict: match: {worst['why']}{_beside(report)}"
        values = f"{counted(len(rows), 'tap')} of {counted(len(report.get('passes') or [0]), 'pass')}"
        line = f"verdict: match: {values}, at most {floors(worst['local_ratio'])} floors ({worst['tap']})"
        return line + _beside(report)
    if not first:
        count = sum(one["verdict"] == report["verdict"] for one in rows)
        why = f": {row['why']}" if row["why"] else ""
        over = next((one for one in rows if one.get("overflow")), None)
        why += f"; {over['tap']}: {over['why']}" if over and over is not row else ""
        line = f"verdict: {report['verdict']}: {count} of {len(rows)}, first {row['tap']} (pass {row['pass']}){why}"
        return line + _beside(report)
    where = f"first at {first['tap']} (pass {first['pass']})"
    line = f"verdict: {report['verdict']}, {where}: {how_far(report)}; {looks_like(report)}"
    beside = _beside(report)
    return line.rstrip(".") + beside if beside else line


def _beside(report: dict[str, Any]) -> str:
    """Say what a verdict must not be read without: another arithmetic, what was not compared, weights not chosen."""
    parts = [arithmetic(report)] if report.get("arithmetic") else []
    compared = report.get("compared")
    if compared and (left := compared["of_dump"] - compared["taps"]):
        parts.append(f"{left} of the dump's {counted(compared['of_dump'], 'tensor')} not compared")
    if compared and compared["taps"] < compared["of_model"]:
        parts.append(f"{compared['taps']} of the model's {compared['of_model']} taps")
    parts += [note for note in report.get("notes") or [] if note.startswith("weights: from ")]
    return "".join(f"; {part.rstrip('.')}" for part in parts)


def arithmetic(report: dict[str, Any]) -> str:
    """Say which arithmetic explains all products, beside the one that the dump declares."""
    one = report["arithmetic"]
    how_sure = f" (c = {coefficient(one)})" if one["coefficient"] is not None else ""
    return f"as if {one['what']}{how_sure}; declared {one['declared']}"


def how_far(report: dict[str, Any]) -> str:
    """Say how far off the first divergence is: in floors, in how many integers, or that it hides below the floor."""
    row, rows = find_row(report), report.get("diagnosis") or []
    if row is None:
        return "no numbers"
    far = f"{floors(row['local_ratio'])} floors"
    if rows and rows[0].get("hidden"):
        return f"below the noise floor, {far}"
    return row["why"] or far


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
    if report.get("from_logits"):
        return _whole_model(report["from_logits"]["ranked"])
    rows = report.get("diagnosis") or []
    best = [row for row in rows if row["verdict"] in ("named", "tied")]
    if not best and (note := next((one for one in report.get("notes") or [] if one.startswith("logits: ")), None)):
        return note
    if not best:
        return "as if: no mistake that is known here"
    if len(best) > 1:
        return f"as if one of: {', '.join(row['mutant'] for row in best)} (c = {coefficient(best[0])})"
    return f"as if: {best[0]['mutant']} (c = {coefficient(best[0])}): {best[0]['what']}"


def _whole_model(rows: list[dict[str, Any]]) -> str:
    """Say which whole-model mistake makes the logits, which are tied, or which come nearest."""
    best = [row for row in rows if row["verdict"] in ("named", "tied")]
    if len(best) == 1:
        far = f"explains {share(best[0]['explains'])}, {floors(best[0]['left'])} floors left"
        return f"as if: {labelled(best[0])} ({far}): {best[0]['what']}"
    if best:
        return f"as if one of: {', '.join(map(labelled, best))} (explains {share(best[0]['explains'])})"
    near = [f"{labelled(row)} ({share(row['explains'])})" for row in rows[:NEAREST]]
    return f"from the logits alone no mistake stands out{'; nearest: ' if near else ''}{', '.join(near)}"


def judged(report: dict[str, Any]) -> list[tuple[str, str]]:
    """List what was judged against what: (name, text) of producer, arithmetic, weights and passes.

    Args:
        report: what `compare` returns; its texts are taken as they are.
    """
    producer, policy, weights = (report.get(key) or {} for key in ("producer", "policy", "weights"))
    passes = [f"{one['ids']} after {one['cached']}" if one["cached"] else str(one["ids"]) for one in report["passes"]]
    shown = ", ".join(passes[:8]) + (", ..." if len(passes) > 8 else "")
    rows = [("producer", _settings(producer, joint=" "))]
    rows += [("arithmetic", _settings(policy)), ("weights", _settings(weights))]
    return [*rows, ("tokens of each pass", shown), ("seconds", f"{report.get('seconds') or 0:.0f}")]


def _settings(values: dict[str, Any], joint: str = ": ") -> str:
    """Write settings in a line; of a table, such as one digest a tensor, only how long it is."""
    if set(values) == {"name", "version"}:
        said = [str(values[key]) for key in ("name", "version") if values[key] != UNSAID]
        return joint.join(said) or UNSAID
    parts = []
    for key, value in values.items():
        if value is not None and value != "":
            text = f"of {counted(len(value), 'item')}" if isinstance(value, (dict, list)) else str(value)
            parts.append(f"{key.replace('_', ' ')} {text}")
    return ", ".join(parts)
