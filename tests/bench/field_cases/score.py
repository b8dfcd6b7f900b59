"""What a report says of a planted mistake: caught, placed, named, and with the right numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .case import About, Answer, AnyOf, Planted


class Score(NamedTuple):
    """Of one planted mistake."""

    caught: bool
    placed: bool
    named: bool
    exact: bool  # named, with its parameters


def causes_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """List the causes that a report names; of a report without causes the rows of its diagnosis."""
    first = report["first"] and {"tap": report["first"]["tap"]}
    rows = report["causes"] if "causes" in report else [row | {"first": first} for row in report["diagnosis"]]
    return [row for row in rows if row["verdict"] in ("named", "tied")]


def names_of(cause: dict[str, Any]) -> set[str]:
    """Return a cause's name, and those it is tied with."""
    return {cause["mutant"], *(cause.get("tied_with") or ())}


def score(report: dict[str, Any], planted: Planted, alone: bool = True) -> Score:
    """Score a report.

    Args:
        report: of the dump.
        planted: what it should say.
        alone: whether there is one mistake, whose tap must be the first; of several, each needs a cause that begins
            at its tap or, in a report without causes, a bug there.
    """
    causes = [one for one in causes_of(report) if alone or _at(one, planted)]
    fits = [one for one in causes if any(answer.mutant in names_of(one) for answer in planted.answers)]
    exact = any(one["mutant"] == answer.mutant and _right(one, answer) for one in fits for answer in planted.answers)
    first = report["first"]["tap"] if report["first"] else ""
    placed = first in planted.taps if alone else any(_at(one, planted) for one in _places(report))
    return Score(report["verdict"] == "bug", placed, bool(fits), exact)


def others(report: dict[str, Any], planted: Sequence[Planted]) -> list[str]:
    """List the names of causes that nobody planted."""
    wanted = {answer.mutant for each in planted for answer in each.answers}
    return [one["mutant"] for one in causes_of(report) if not names_of(one) & wanted]


def _at(one: dict[str, Any], planted: Planted) -> bool:
    return bool(one["first"]) and one["first"]["tap"] in planted.taps


def _places(report: dict[str, Any]) -> list[dict[str, Any]]:
    if "causes" in report:
        return report["causes"]
    return [{"first": {"tap": row["tap"]}} for row in report["taps"] if row["verdict"] == "bug"]


def _right(cause: dict[str, Any], answer: Answer) -> bool:
    got = {one["name"]: one["value"] for one in cause.get("parameters") or ()}
    return all(name in got and is_value(got[name], value) for name, value in answer.parameters.items())


def is_value(got: Any, wanted: Any) -> bool:
    """Tell whether a reported value is what was planted."""
    if isinstance(wanted, AnyOf):
        return any(is_value(got, one) for one in wanted.values)
    if isinstance(wanted, About):
        return isinstance(got, (int, float)) and abs(got - wanted.value) <= wanted.within * abs(wanted.value)
    return got == wanted


def in_words(answers: tuple[Answer, ...]) -> str:
    """Say what a report should say."""
    first = {one.mutant: one.parameters for one in reversed(answers)}
    return " or ".join(f"{name}({_parameters(parameters)})" for name, parameters in reversed(first.items()))


def said(report: dict[str, Any]) -> str:
    """Say what a report says."""
    causes = causes_of(report)
    first = report["first"]["tap"] if report["first"] else "no tap"
    names = []
    for one in causes[:4]:
        values = {parameter["name"]: parameter["value"] for parameter in one.get("parameters") or ()}
        names.append(f"{one['mutant']}({_parameters(values)})")
    return f"{report['verdict']} at {first}: {', '.join(names) or 'no name'}"


def _parameters(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    if isinstance(value, About):
        value = value.value
    if isinstance(value, AnyOf):
        return "|".join(map(_short, value.values))
    words = f"{value:.5g}" if isinstance(value, float) else str(value)
    return words if len(words) <= 40 else f"{words[:36]} ..."
