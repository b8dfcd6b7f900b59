"""Ask a foreign rule about many inputs, shrink what it gets wrong, and name the known mistake it behaves like."""

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ref.mutants.base import RuleMutant
from ref.mutants.seen_in import seen_in_words
from ref.testing.answers import Ended
from ref.testing.strategies import Flaky, hypothesis


class Rule(NamedTuple):
    """A rule of ours as something that others are asked about."""

    name: str
    cases: Any  # a Hypothesis strategy
    known: Sequence[Any]  # cases asked first
    truth: Callable[[Any], Any]
    read: Callable[[Any, Any], Any]  # (case, an answer of any type) -> comparable, or ValueError: what is wrong with it
    same: Callable[[Any, Any, Any], bool]  # (case, a, b)
    mutants: Sequence[RuleMutant]
    mutate: Callable[[RuleMutant, Any], Any]  # (mutant, case)
    key: Callable[[Any], Any]  # case -> hashable
    draw: Callable[[Any, Any, Any], str]  # (case, expected, got or None) -> a picture
    describe: Callable[[Any], str]  # case -> one line
    question: Callable[[Any], dict]  # case -> what JSON holds of it
    plain: Callable[[Any], Any]  # an answer as JSON holds it
    size: Callable[[Any], Any] | None = None  # case -> comparable: the smallest of several is shown


class Counterexample(NamedTuple):
    """An input on which the foreign rule is wrong."""

    case: Any
    expected: Any
    got: Any  # None: no proper answer
    problem: str  # why there is none; empty where there is one
    error: Exception | None  # what the foreign function raised
    mutants: list[RuleMutant]  # known mistakes that answer as it did everywhere
    wrong: int  # on how many of the inputs asked it was wrong


class Outcome(NamedTuple):
    """How many inputs a rule was asked about before shrinking, and what was wrong, if anything."""

    asked: int
    found: Counterexample | None


class _Answer(NamedTuple):
    case: Any
    got: Any
    problem: str
    error: Exception | None
    right: bool


def find_counterexample(rule: Rule, ask: Callable[[Any], Any], examples: int, seed: int) -> Outcome:
    """Ask about `examples` inputs drawn by the seed and return the simplest that is answered wrongly.

    All inputs are asked before anything is shrunk, so that a mistake is named by everything that is known of it.

    Args:
        rule: what is right.
        ask: case -> the foreign answer; what it raises is an answer too, except Ended, which ends the search.
        examples: how many inputs to draw, besides those the rule has always in mind.
        seed: of the draw. Hypothesis also tries constants of the modules that are loaded, so it is the same in the
            same program only.

    Raises:
        Ended: from `ask`.

    Source: Hypothesis, which draws and shrinks.
    """
    answers = [_judge(rule, ask, case) for case in _draw(rule, examples, seed)]
    wrong = [answer for answer in answers if not answer.right]
    if not wrong:
        return Outcome(len(answers), None)
    simplest = _simplest(rule, wrong, _shrink(rule, ask, examples, seed))
    mutants = [m for m in rule.mutants if _agrees(rule, m, [simplest, *wrong, *answers])]
    case, got, problem, error, _ = simplest
    found = Counterexample(case, rule.truth(case), got, problem, error, mutants, len(wrong))
    return Outcome(len(answers), found)


def _simplest(rule: Rule, wrong: list[_Answer], shrunk: _Answer | None) -> _Answer:
    """Choose what to show: the smallest where the rule has a measure, else the shrunk one, else what is told shortest.

    Shrinking alone makes one number smaller at a time, and so stays where two must shrink together, as at a ratio.
    """
    if rule.size is None:
        return shrunk or min(wrong, key=lambda answer: len(str(rule.question(answer.case))))
    return min([*wrong, *([shrunk] if shrunk else [])], key=lambda answer: rule.size(answer.case))  # type: ignore[misc]


def _settings(examples: int, *phases: Any):
    return hypothesis.settings(
        max_examples=examples, database=None, deadline=None, print_blob=False, report_multiple_bugs=False,
        phases=phases, suppress_health_check=list(hypothesis.HealthCheck),  # type: ignore[arg-type]
    )  # fmt: skip


def _draw(rule: Rule, examples: int, seed: int) -> list[Any]:
    drawn = {rule.key(case): case for case in rule.known}

    @hypothesis.seed(seed)
    @_settings(examples, hypothesis.Phase.generate)
    @hypothesis.given(rule.cases)
    def keep(case):
        drawn.setdefault(rule.key(case), case)

    keep()
    return list(drawn.values())


def _judge(rule: Rule, ask, case) -> _Answer:
    try:
        given = ask(case)
    except Ended:
        raise
    except Exception as error:  # whatever the foreign function raises is what is reported
        return _Answer(case, None, f"raised {type(error).__name__}: {' '.join(str(error).split())}", error, False)
    try:
        got = rule.read(case, given)
    except ValueError as error:
        return _Answer(case, None, str(error), None, False)
    return _Answer(case, got, "", None, rule.same(case, rule.truth(case), got))


class _Wrong(Exception):
    pass


def _shrink(rule: Rule, ask, examples: int, seed: int) -> _Answer | None:
    """Let Hypothesis find and shrink a wrong answer; None where it meets none, or another one each time."""
    last: list[_Answer] = []
    refused: list[Ended] = []

    @hypothesis.seed(seed)
    @_settings(max(examples, 50), hypothesis.Phase.generate, hypothesis.Phase.shrink)
    @hypothesis.given(rule.cases)
    def must_be_right(case):
        if refused:
            return
        try:
            answer = _judge(rule, ask, case)
        except Ended as error:
            refused.append(error)
            return
        if not answer.right:
            last.append(answer)
            raise _Wrong

    with contextlib.suppress(_Wrong, Flaky):
        must_be_right()
    if refused:
        raise refused[0]
    return last[-1] if last else None


def _agrees(rule: Rule, mutant: RuleMutant, answers: Sequence[_Answer]) -> bool:
    return all(
        not answer.problem and rule.same(answer.case, rule.mutate(mutant, answer.case), answer.got)
        for answer in answers
    )


def explain(rule: Rule, outcome: Outcome) -> str:
    """Say what was answered wrongly, with a picture and the known mistake it looks like; empty if all is right.

    Args:
        rule: what is right.
        outcome: from `find_counterexample`.
    """
    asked, found = outcome
    if found is None:
        return ""
    lines = [f"{rule.name}: wrong on {found.wrong} of {asked} inputs, of which the simplest is"]
    lines += [f"  {rule.describe(found.case)}", f"  asked: {json.dumps(rule.question(found.case))}"]
    if found.problem:
        lines += ["", f"  it {found.problem}"]
    lines += ["", rule.draw(found.case, found.expected, found.got), ""]
    for m in found.mutants:
        lines += [f"as if: {m.name}: {m.what}", "  " + seen_in_words(one.where for one in m.seen_in)]
    if not found.mutants:
        lines.append("as no known mistake: none answers every input as this did")
    elif len(found.mutants) > 1:
        lines.append("(no input tells those apart)")
    return "\n".join(lines)
