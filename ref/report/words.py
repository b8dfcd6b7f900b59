"""Words that the reports share: texts that are safe to print, the verdict in a line, what was judged."""

import bisect
import itertools
from typing import Any, NamedTuple

from ref.measure.floor import FOLLOWS, SMALL
from ref.report.bases import basis_words
from ref.report.causes import cause_words, in_layers, is_small, told_where, unknown_words
from ref.report.figures import coefficient, counted, in_floors, worst_of
from ref.report.regression import in_words

UNSAID = "not said"  # what readers write where a dump does not say a thing
LONGEST = 300  # characters of a name or sentence that came with a dump
LONGEST_LINE = 440  # of the verdict; causes that there is no room for are counted
LEAST, ONE_OF_MANY = 200, 130  # characters that a cause has in any case; that each of several has at most
MOST_BASES = 2  # in that line


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


class Told(NamedTuple):
    """The verdict in parts, for those who put them below each other."""

    head: str  # what follows the verdict's word: where, and how far off
    causes: list[str]  # the one that moves the logits most first
    rest: list[str]  # whether they explain all of it, and what the verdict must not be read without


def verdict_line(report: dict[str, Any]) -> str:
    """Say the verdict, where it goes wrong first, and why, in one line.

    Args:
        report: what `compare` returns; its texts are taken as they are.
    """
    told = told_verdict(report)
    line, rest = f"verdict: {report['verdict']}{told.head}", "".join(f"; {part}" for part in told.rest)
    line += _causes_in(told.causes, LONGEST_LINE - len(line) - len(rest), report) + rest
    return " ".join(line.split())  # one line, whatever a text holds


def told_verdict(report: dict[str, Any]) -> Told:
    """Return the verdict in parts.

    Args:
        report: what `compare` returns; its texts are taken as they are.
    """
    rows, first, row = report["taps"], report.get("first"), find_row(report)
    if row is None:
        return Told(": nothing was compared", [], [])
    if first:
        head = f", first at {first['tap']} (pass {first['pass']}), {how_far(row)}"
        return Told(head, _causes(report), [*_proof(report), *_beside(report)])
    if report["verdict"] == "match":
        worst = worst_of(rows, "local_ratio")
        if len(rows) == 1 and worst["local_ratio"] is None and worst["why"]:  # an answer: nothing of it is local
            return Told(f": {worst['why']}", [], _beside(report))
        values = f"{counted(len(rows), 'tap')} of {counted(len(report.get('passes') or [0]), 'pass')}{_of_all(report)}"
        at_most = f"at most {in_floors(worst['local_ratio'])} ({worst['tap']})"
        if sketched(report):
            worst = worst_of(rows, "inherited_ratio")
            at_most = f"from the prompt on at most {in_floors(worst['inherited_ratio'])} ({worst['tap']})"
        return Told(f"{_in_bases(report)}: {values}, {at_most}", [], _beside(report))
    count = sum(one["verdict"] == report["verdict"] for one in rows)
    why = f": {row['why']}" if row["why"] else ""
    over = next((one for one in rows if one.get("overflow")), None)
    why += f"; {over['tap']}: {over['why']}" if over and over is not row else ""
    return Told(f": {count} of {len(rows)}, first {row['tap']} (pass {row['pass']}){why}", [], _beside(report))


def _of_all(report: dict[str, Any]) -> str:
    """Say of how many taps of the dump a verdict is, where some were left out."""
    return f", of {report['compared']['of_dump']} that the dump has" if report.get("left_out") else ""


def _causes(report: dict[str, Any]) -> list[str]:
    """Say each cause; of several also at which operations, and in which layers."""
    causes = report.get("causes") or []
    if len(causes) != 1:
        return [f"{told_where(one, report)}: {cause_words(one, report)}" for one in causes] or [unknown_words(report)]
    [one] = causes
    layers = in_layers(one["layers"], one["groups"], report) if len(one["layers"]) > 1 else ""
    return [cause_words(one, report, layers)]


def _causes_in(causes: list[str], room: int, report: dict[str, Any]) -> str:
    """Write causes one after the other; those that there is no room for are counted."""
    if len(causes) < 2:
        return f": {_cut(causes[0], max(room - 2, LEAST))}" if causes else ""
    known = all(one["mutant"] for one in report["causes"])
    cut = [f"({number}) {_cut(cause, ONE_OF_MANY)}" for number, cause in enumerate(causes, 1)]
    lengths = list(itertools.accumulate(len(one) + 2 for one in cut))
    said = cut[: max(1, bisect.bisect(lengths, room - 15))]
    more = f"; ... and {len(causes) - len(said)} more" if len(said) < len(causes) else ""
    return f"; {len(causes)} {'mistakes' if known else 'causes'}: {'; '.join(said)}{more}"


def _cut(text: str, room: int) -> str:
    """Cut a cause that is longer than there is room for; its name, in brackets at the end, stays."""
    if len(text) <= room:
        return text
    name = text[text.rindex(" (") :] if " (" in text else ""
    return text[: max(20, room - len(name) - 3)].rstrip(" ,:;") + "..." + name


def _proof(report: dict[str, Any]) -> list[str]:
    """Say whether the named mistakes explain what comes out; of those that are too small to be seen there, nothing."""
    proof, known = report.get("proof"), [one for one in report.get("causes") or [] if one["mutant"]]
    if not proof or all(is_small(one, report) for one in known):
        return []
    said = proof["says"].partition(": ")[0]
    return ["this explains" + said.removeprefix("these explain") if len(known) == 1 and "explain" in said else said]


def _in_bases(report: dict[str, Any]) -> str:
    said = basis_words(report.get("bases") or [], report)
    more = f"; and {len(said) - MOST_BASES} more" if len(said) > MOST_BASES else ""
    return f" (in another basis: {'; '.join(said[:MOST_BASES])}{more})" if said else ""


def _beside(report: dict[str, Any]) -> list[str]:
    """Say what a verdict must not be read without: another arithmetic, what was not compared, weights not chosen."""
    parts = [arithmetic(report)] if report.get("arithmetic") else []
    if count := sketched(report):
        alone = sum(row["local"] is not None for row in report["taps"])
        judged_alone = f"{counted(alone, 'tap')} on own inputs" if alone else "none on its own inputs"
        parts.append(f"{counted(count, 'tap')} known by sketches; {judged_alone}")
    compared = report.get("compared")
    if compared and (left := compared["of_dump"] - compared["taps"]):
        parts.append(f"{left} of the dump's {counted(compared['of_dump'], 'tensor')} not compared")
    if compared and compared["taps"] < compared["of_model"]:
        parts.append(f"{compared['taps']} of the model's {compared['of_model']} taps")
    parts += [note for note in report.get("notes") or [] if note.startswith("weights: from ")]
    parts += [in_words(report["regression"])] if report.get("regression") else []
    return [part.rstrip(".") for part in parts]


def sketched(report: dict[str, Any]) -> int:
    """Return of how many taps the dump keeps a sketch."""
    return (report.get("compared") or {}).get("sketched", 0)


def follows(row: dict[str, Any]) -> bool:
    """Tell whether a tap is off, and made from one that is: a small dump tells no more of it."""
    return row["why"].startswith(FOLLOWS)


def arithmetic(report: dict[str, Any]) -> str:
    """Say which arithmetic explains all products, beside the one that the dump declares."""
    one = report["arithmetic"]
    how_sure = f" (c = {coefficient(one)})" if one["coefficient"] is not None else ""
    return f"as if {one['what']}{how_sure}; declared {one['declared']}"


def how_far(row: dict[str, Any]) -> str:
    """Say how far off a tap is: in floors, in how many integers, that it differs, or that no single value shows it.

    Args:
        row: an item of a report's `taps`.
    """
    if row["why"].startswith(SMALL):
        return SMALL
    counts = row.get("exact") or row["local_ratio"] is None or row.get("nonfinite")  # floors would say less
    return row["why"] if row["why"] and counts else in_floors(row["local_ratio"])


def find_row(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return the tap of the first divergence, or else the first that has the report's verdict."""
    first = report.get("first")
    for row in report["taps"]:
        here = first and (row["tap"], row["pass"]) == (first["tap"], first["pass"])
        if here or (not first and row["verdict"] == report["verdict"]):
            return row
    return None


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
