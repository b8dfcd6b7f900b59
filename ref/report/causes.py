"""Causes in plain words: what is wrong, with its number, in which layers, and where in the tensor."""

import re
from typing import Any

from ref.hypotheses.lists import and_more
from ref.measure.floor import SMALL
from ref.mutants.seen_in import seen_in_words
from ref.report.figures import coefficient, counted, in_floors, percent, plain, runs_of, with_error
from ref.report.ranks import ranks_of
from ref.report.words_logits import whole_model_words

MOST_NAMES = 3  # of operations and of tied mistakes, in a sentence
MOST_VALUES = 12  # of a list that was fitted
PROOF = "proof (the model was run with what is named)"
UNKNOWN = "no mistake that is known here"
UNTOLD = "a small dump does not tell which mistake"


def cause_words(cause: dict[str, Any], report: dict[str, Any], layers: str = "") -> str:
    """Say what a cause is, with its number, where in the tensor it is, and its name.

    Args:
        cause: an item of a report's `causes`.
        report: the report.
        layers: what `in_layers` says, where it has to be said.
    """
    if cause["verdict"] == "unexplained" and _is_sketch(cause, report):
        return UNTOLD + layers
    if cause["verdict"] == "unexplained":
        near = [fit["what"] for fit in report.get("fits") or [] if fit["tap"] in cause["taps"]]
        ranks = ranks_of(cause, report)
        layers += f", on {ranks} only" if ranks else ""
        return unknown_words(report) + layers + (f", though near it comes: {near[0]}" if near else "")
    what = _own_layer(cause, plain(_joined(cause["what"])))
    where = f", only in {cause['where']}" if cause["where"] and cause["where"] not in what else ""
    ranks = ranks_of(cause, report)
    where += f", on {ranks} only" if ranks else ""
    where += f",{layers}" if layers else ""
    return f"{what}{where} ({', '.join([_name(cause), *_numbers(cause, report)])})"


def _is_sketch(cause: dict[str, Any], report: dict[str, Any]) -> bool:
    """Tell whether the first tap of a cause was not measured on its own inputs, since the dump is small."""
    if not (report.get("compared") or {}).get("sketched"):
        return False
    place = cause["first"]["pass"], cause["first"]["tap"]
    return any((row["pass"], row["tap"]) == place and row["local"] is None for row in report["taps"])


def unknown_words(report: dict[str, Any]) -> str:
    """Say what is known where no tap tells the mistake: what the logits alone say, or nothing.

    Args:
        report: the report.
    """
    if report.get("from_logits"):
        return whole_model_words(report["from_logits"]["ranked"])
    return next((note for note in report.get("notes") or [] if note.startswith("logits: ")), UNKNOWN)


def told_where(cause: dict[str, Any], report: dict[str, Any]) -> str:
    """Say which operations a cause is at, and in which layers: `attn.q_rope, attn.k_rope in layers 5, 11, 17`."""
    names = [short(group) for group in cause["groups"]]
    return and_more(names, MOST_NAMES) + in_layers(cause["layers"], cause["groups"], report)


def in_layers(layers: list[int], groups: list[str], report: dict[str, Any]) -> str:
    """Say in which layers: ` in layer 3`, ` in layers 5, 11, 17`, ` in all 18 layers`; nothing outside layers.

    All are told as all only where the dump has every tap of the model: nothing else says how many there are.
    """
    if not layers:
        return ""
    compared = report.get("compared") or {"taps": 0, "of_model": 1}
    tower = groups[0].split(".")[0] if groups else "text"
    there = {row["layer"] for row in report["taps"] if row["layer"] is not None and row["tap"].startswith(tower)}
    if len(layers) > 1 and compared["taps"] == compared["of_model"] and set(layers) == there:
        return f" in all {len(layers)} layers"
    return f" in layer{'s' if len(layers) > 1 else ''} {runs_of(layers)}"


def cause_at(tap: dict[str, Any], report: dict[str, Any]) -> dict[str, Any] | None:
    """Return the cause of a wrong tap; None where nothing was wrong.

    Args:
        tap: an item of a report's `taps`.
        report: the report.
    """
    causes = report.get("causes") or []
    return next((one for one in causes if tap["tap"] in one["taps"] and tap["pass"] in one["passes"]), None)


def is_small(cause: dict[str, Any], report: dict[str, Any]) -> bool:
    """Tell whether a cause is smaller than rounding noise at each value, so that only all together show it."""
    rows = {(row["tap"], row["pass"]): row for row in report["taps"]}
    first = rows.get((cause["first"]["tap"], cause["first"]["pass"]))
    return bool(first and first["why"].startswith(SMALL))


def cause_facts(cause: dict[str, Any], report: dict[str, Any]) -> list[tuple[str, str]]:
    """List what is known of a cause: (label, text), for a block of its own.

    Args:
        cause: an item of a report's `causes`.
        report: the report.
    """
    passes = f", {'pass' if len(cause['passes']) == 1 else 'passes'} {runs_of(cause['passes'])}"
    taps = counted(len(cause["taps"]), "tap")
    first = f", first {cause['first']['tap']}" if len(cause["taps"]) > 1 else ""
    facts = [("at", f"{told_where(cause, report)}{passes}: {taps}{first}")]
    facts += [("ranks", ranks_of(cause, report))] if ranks_of(cause, report) else []
    facts += [(one["name"], _parameter(one)) for one in cause["parameters"]]
    if cause["verdict"] == "tied":
        facts.append(("as well", ", ".join(cause["tied_with"])))
    if cause["coefficient"] is not None:
        unknown = cause["left"] is None or is_small(cause, report)
        left = "" if unknown else f"; {in_floors(cause['left'])} are left with it"
        facts.append(("coefficient", coefficient(cause) + left))
    if cause["moves"] is not None:
        tap = (report.get("proof") or {}).get("tap") or "text.logits"
        what = "the logits" if tap == "text.logits" else tap
        facts.append(("moves", f"{what} by {percent(cause['moves'])} of the norm"))
    where = seen(cause).rstrip(".").removeprefix("Seen ")
    return [*facts, *([("seen", where)] if where and cause["mutant"] else [])]


def seen(mistake: dict[str, Any]) -> str:
    """Say in a sentence where a mistake of the catalogue was seen; of one with parameters of its own, nothing."""
    return seen_in_words(mistake["seen_in"]) if mistake["seen_in"] or not mistake.get("parameters") else ""


def short(tap: str) -> str:
    """Shorten a tap's name to its operation: `attn.k`, `vision ffn.act`, `text.embed`."""
    parts = tap.split(".")
    if parts[1:2] != ["layer"]:
        return tap
    return ("vision " if parts[0] == "vision" else "") + ".".join(parts[3:])


def _name(cause: dict[str, Any]) -> str:
    if cause["verdict"] != "tied":
        return cause["mutant"]
    several = [cause["mutant"], *cause["tied_with"]]
    return f"one of {and_more(several, MOST_NAMES + 1)}: this input cannot tell which"


def _numbers(cause: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """List the numbers of a cause that have an error: the others stand in the sentence."""
    fitted = [one for one in cause["parameters"] if one["stderr"] and isinstance(one["value"], (int, float))]
    said = [f"{one['name']} {with_error(one['value'], one['stderr'])}" for one in fitted]
    unsure = (cause["stderr"] or 0) > 0.005 or abs((cause["coefficient"] or 1) - 1) > 0.005
    return said + ([f"c = {coefficient(cause)}"] if unsure and cause["coefficient"] is not None else [])


def _parameter(one: dict[str, Any]) -> str:
    """Write a parameter: its value with its error, what is known of it, and what is right."""
    value, words = one["value"], plain(one["words"]) if one["words"] else ""
    if isinstance(value, list):
        long = len(value) > MOST_VALUES
        said = words if long and words else ", ".join(map(str, value[:MOST_VALUES])) + (", ..." if long else "")
    else:
        said = with_error(value, one["stderr"]) if isinstance(value, (int, float)) else str(value)
        said += f" = {words}" if words and words != said else ""
    right = one["wanted"]
    right = f"{right:.6g}" if isinstance(right, float) else "" if right is None else str(right)
    return said + (f"; right: {right}" if right else "")


def _joined(what: str) -> str:
    """Join sentences that say the same of several things: gate, up and down have the weights of layer 5."""
    parts = [part.rstrip(".").split(" ", 1) for part in what.split(". ")]
    if len(parts) < 2 or any(len(part) < 2 or part[1] != parts[0][1] for part in parts):
        return what
    subjects = ", ".join(part[0] for part in parts[:-1]) + f" and {parts[-1][0]}"
    return f"{subjects} {parts[0][1].replace('has ', 'have ', 1).replace('its own', 'their own')}"


def _own_layer(cause: dict[str, Any], what: str) -> str:
    """Say which layer `its own` is, where it is one."""
    if cause["mutant"] != "weights_of_layer" or len(cause["layers"]) != 1:
        return what
    return re.sub(r"(?<=(its|eir) own)$", f" (layer {cause['layers'][0]})", what)
