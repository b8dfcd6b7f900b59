"""Words of whole-model mistakes, which are ranked from logits alone."""

import math
from typing import Any

from ref.mutants.seen_in import seen_in_words
from ref.report.figures import in_floors, plain

NEAREST, MOST = 3, 8  # mistakes listed where none stands out; names of what was not tried


def share(value: float | None) -> str:
    """Write a share of the distance as a percentage, with the nines that tell it from all: `99.9998 %`."""
    if value is None or not math.isfinite(value) or value < -1:
        return "nothing"
    rest = 1 - value
    if rest < 1e-9:
        return "100 %"
    digits = min(8, max(0, math.ceil(-math.log10(rest)) - 1)) if value > 0.9 else 0
    return f"{math.floor(100 * value * 10**digits) / 10**digits:.{digits}f} %"


def digits(value: Any) -> str:
    """Write a number to six digits, and a word as it is."""
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def labelled(row: dict[str, Any]) -> str:
    """Write a whole-model mistake with its number and layers: `rotary_base (base 33000, not 10000) in layer 3`.

    Args:
        row: an item of a report's `from_logits`.
    """
    text, layers = row["mutant"], row["layers"]
    for one in row["parameters"]:
        text += f" ({one['name']} {digits(one['value'])}, not {digits(one['wanted'])})"
    if layers is None:
        return text
    return f"{text} in {'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers))}"


def whole_model_words(rows: list[dict[str, Any]]) -> str:
    """Say which whole-model mistake makes the logits, which are tied, or which come nearest.

    Args:
        rows: `ranked` of a report's `from_logits`.
    """
    best = [row for row in rows if row["verdict"] in ("named", "tied")]
    if not best:
        near = [f"{labelled(row)} ({share(row['explains'])})" for row in rows[:NEAREST]]
        return f"from the logits alone no mistake stands out{'; nearest: ' if near else ''}{', '.join(near)}"
    far = f"explains {share(best[0]['explains'])}, {in_floors(best[0]['left'])} left"
    if len(best) > 1:
        return f"one of {', '.join(map(labelled, best))}: these logits cannot tell which ({far})"
    layers = f", {labelled(best[0]).rpartition(' in ')[2]}" if best[0]["layers"] is not None else ""
    return f"{plain(best[0]['what'])} ({best[0]['mutant']}{layers}, {far})"


def about_whole(row: dict[str, Any]) -> str:
    """Say what a whole-model mistake is: its number with the error, its layers, and where it was seen."""
    parts = [row["what"]]
    for one in row["parameters"]:
        error = f" +- {one['stderr']:.1g}" if one["stderr"] else ""
        words = f" ({one['words']})" if one["words"] else ""
        parts.append(f"{one['name']} = {digits(one['value'])}{error}{words}.")
    if row["layers"] is not None:
        noun = "layer" if len(row["layers"]) == 1 else "layers"
        parts.append(f"Only in {noun} {', '.join(map(str, row['layers']))}.")
    if row["tied_with"]:
        parts.append(f"The same to this answer: {', '.join(row['tied_with'])}.")
    return " ".join([*parts, seen_in_words(row["seen_in"])])


def tried(found: dict[str, Any]) -> str:
    """Say what was run, and what was not and why.

    Args:
        found: a report's `from_logits`.
    """
    one = found["tried"]
    text = f"{one['catalogue']} known mistakes and {len(one['families'])} with a number were run from the prompt"
    text += f", and {one['layers']} times one in some layers only" if one["layers"] else ""
    left: dict[str, list[str]] = {}
    for row in one["not_tried"]:
        left.setdefault(row["why"], []).append(row["family"])
    whys = [f"{len(names)} ({why})" for why, names in sorted(left.items(), key=lambda item: -len(item[1]))]
    more = f", {sum(len(names) for names in left.values())} in all" if len(whys) > MOST else ""
    text += f"; not tried: {', '.join(whys[:MOST])}{more}" if whys else ""
    return f"{text}; {found['seconds']:.0f} s"
