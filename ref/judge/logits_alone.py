"""Dumps of nothing but logits: which whole-model mistake makes them, run from the prompt."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ref.dump.align import values_of
from ref.emulate.one_pass import pass_of
from ref.from_logits.answers import Answer, Known, some_columns
from ref.from_logits.runs import Text
from ref.from_logits.search import explain
from ref.from_logits.trial import Trial
from ref.judge.case import Question
from ref.judge.judgement import Judgement
from ref.judge.server_answers import finding_of, report_of
from ref.measure.pass_runs import PassRuns

ENDS = ("text.logits", "text.final_norm")
CONSTANT = "logits: right but for a number common to all of a token, as of log-probabilities or logits less the largest"


def explained(
    judged: Judgement, question: Question, report: dict[str, Any], say: Callable[[str], Any] | None = None
) -> tuple[dict[str, Any] | None, list[str]]:
    """Run whole-model mistakes where a dump's only text tap is the logits or the final norm, and that is wrong.

    Args:
        judged: what was found.
        question: what was judged.
        report: its report.
        say: called with the shortlist as soon as it is there.

    Returns:
        (a report's `from_logits`, notes): None where it has other taps, or is right; or nearly so, which is noted.
    """
    taps = {tap for one in judged.all_runs for tap in one.stored if tap.startswith("text.")}
    first = report["first"]
    if not first or not taps <= set(ENDS) or first["tap"] not in ENDS or any(one.partial for one in judged.all_runs):
        return None, []
    answer = answer_of(judged.all_runs, first["tap"])
    if answer is None:
        return None, []
    numbers = {id(one): i for i, one in enumerate(judged.all_runs)}
    before = tuple(None if one.before is None else numbers[id(one.before)] for one in judged.all_runs)
    text = Text(tuple(one.one_pass for one in judged.all_runs), before)
    found = explain(Trial(question.loaded, text, answer, judged.family, question.progress), say)
    return found, [CONSTANT] if found is None and answer.kind == "logits" else []


def answer_of(all_runs: list[PassRuns], tap: str) -> Answer | None:
    """Return what a dump says of the model's output: of logits some columns, of tokens those that are finite.

    Args:
        all_runs: the passes.
        tap: `text.logits` or `text.final_norm`.

    Returns:
        The answer; None where a pass lacks the tap or no token is finite.
    """
    if any(tap not in one.stored for one in all_runs):
        return None
    known = []
    for one in all_runs:
        width = one.stored[tap].shape[-1]
        columns = some_columns(width) if tap == "text.logits" else np.arange(width)
        value = values_of(np.take(one.stored[tap].read()[0], columns, axis=-1))
        rows = np.flatnonzero(np.isfinite(value).all(axis=-1) & one.one_pass.valid)
        known.append(Known(rows, columns, value[rows]))
    kind = "logits" if tap == "text.logits" else "final_norm"
    answer = Answer(kind, tuple(known))
    return answer if answer.tokens else None


def judge_last(question: Question, family: str, say: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Judge a file that holds nothing but the output of each row's last token.

    Args:
        question: what is judged; its dump has `last`.
        family: whose valid runs make the noise floor.
        say: called with the shortlist as soon as it is there.

    Returns:
        What a report says of it: one row.
    """
    dump, held = question.dump, question.held if question.held in ("bfloat16", "float16") else "file"
    numbers = sorted(dump.last)
    tap = max(set.intersection(*(set(dump.last[number]) for number in numbers)))  # the logits, where both are there
    passes, known = [], []
    for number in numbers:
        one, stored = dump.passes[number], dump.last[number][tap]
        how = {
            "positions": one.positions,
            "left_pads": one.left_pads,
            "composition": question.composition,
            "held": held,
        }
        passes.append(pass_of(question.loaded, one.ids, **how))
        columns = some_columns(stored.shape[-1]) if tap == "text.logits" else np.arange(stored.shape[-1])
        value = values_of(np.take(stored.read()[0], columns, axis=-1))
        known.append(Known(np.array([len(one.ids) - 1]), columns, value))
    kind = "logits" if tap == "text.logits" else "final_norm"
    text = Text(tuple(passes), (None,) * len(passes))
    trial = Trial(question.loaded, text, Answer(kind, tuple(known)), family, question.progress)
    found, dtype = explain(trial, say), dump.last[numbers[0]][tap].dtype
    finding = replace(finding_of(trial, tap, "the last token only"), dtype=dtype)
    return report_of(finding, trial) | ({"from_logits": found} if found else {})
