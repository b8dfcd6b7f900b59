"""Servers' answers and greedy texts beside the truth: their log-probabilities at the same tokens, their choices."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ref.dump.read_server_json import ServerAnswer
from ref.dump.server_tokens import Followed, followed
from ref.emulate.one_pass import pass_of
from ref.from_logits.answers import CENTRED, Answer, Known, largest_at
from ref.from_logits.runs import Text, run_all
from ref.from_logits.search import explain
from ref.from_logits.trial import Trial
from ref.golden_files.report_format import headed
from ref.judge.family import check_family
from ref.measure.floor import LIMIT
from ref.measure.parallel import blas_for_runs
from ref.measure.tap_finding import TapFinding

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

TAP, NOT_SAID = "text.logits", "not said"
STEPS = {"bfloat16": 5, "float16": 9}  # differences of logits below 64 are multiples of 2 to the power of minus this
ENOUGH, CLOSE = 8, 2e-5  # differences that must be so; float32's error of a log-probability
DIGITS = 6  # decimals from which on a printed value is as good as the float32 it was


def judge_answer(
    answer: ServerAnswer,
    loaded: "Loaded",
    *,
    prompt: Sequence[int] | None = None,
    family: str | None = None,
    held: str | None = None,
    chosen: str = "given",
    progress: Callable[[int, int], Any] | None = None,
    say: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Compare a server's answer with the truth after the same tokens; where it is off, say which mistake makes it so.

    Args:
        answer: from `ref.dump.read_server_json`.
        loaded: the weights.
        prompt: ids of the prompt; None takes the server's.
        family: whose noise floor; None goes by the values, or by the server's name.
        held: the dtype that the server held its weights in; None goes by the family.
        chosen: who chose the weights, for the report.
        progress: called with a number of done and of all candidates.
        say: called with the shortlist as soon as it is there.

    Returns:
        The report, as `compare` makes it: one row, of `text.logits`.

    Raises:
        BadInput: as `ref.dump.server_tokens.followed`.
    """
    start = time.perf_counter()
    said = followed(answer, prompt, loaded.tokenizer, loaded.params.config.vocabulary)
    known = _known(said)
    family = family or _family(answer, known)
    check_family(family)
    held = held or (family if family in STEPS else "file")
    text = Text((pass_of(loaded, said.ids, held=held),), (None,))
    what = Answer("greedy" if said.greedy else "log-probabilities", (known,), 0.0 if said.greedy else _step(known))
    with blas_for_runs():
        trial = Trial(loaded, text, what, family, progress)
        why = _choices(trial, said, loaded) if said.greedy else ""
        found = explain(trial, say)
    finding = finding_of(trial, TAP, why or f"{what.numbers} log-probabilities after {what.tokens} tokens")
    weights = {"name": None, "judged_against": loaded.name, "held_as": held, "from": chosen}
    report = _report(answer, said, finding, trial) | {"policy": {"judged_as": family}, "weights": weights}
    if found:
        report["from_logits"] = found
    return headed("compare", report | {"seconds": round(time.perf_counter() - start, 2)})


def _known(said: Followed) -> Known:
    """Lay out what is said as arrays: after which token, of which, how probable."""
    some = [(row, values) for row, values in zip(said.rows, said.values, strict=True) if values]
    most = max(len(values) for _, values in some)
    columns, values = np.full((len(some), most), -1, np.int64), np.full((len(some), most), np.nan)
    for i, (_, one) in enumerate(some):
        columns[i, : len(one)], values[i, : len(one)] = list(one), list(one.values())
    return Known(np.array([row for row, _ in some], np.int64), columns, values)


def _family(answer: ServerAnswer, known: Known) -> str:
    """Return whose floor to take: llama.cpp's own, else by the steps that differences of a token's values come in."""
    if answer.server == "llama.cpp":
        return "llama.cpp"
    apart = known.values - np.nanmax(known.values, axis=1, keepdims=True)
    apart = apart[np.isfinite(apart) & (apart != 0)]
    for form, power in STEPS.items():
        steps = apart * 2.0**power
        if apart.size >= ENOUGH and (np.abs(steps - np.rint(steps)) < CLOSE * 2.0**power).all():
            return form
    return "float32"


def _step(known: Known) -> float:
    """Return the step that values were rounded to when they were written; 0 where they have all their digits."""
    values = known.values[np.isfinite(known.values)]
    for digits in range(1, DIGITS):
        if (np.abs(values - np.round(values, digits)) < 1e-12).all():
            return 10.0**-digits
    return 0.0


def _choices(trial: Trial, said: Followed, loaded: "Loaded") -> str:
    """Say where a greedy text first chose another token than the truth, and how much less probable."""
    measures = trial.measures
    margins, noise = measures.truth[:, 0], np.sqrt(measures.noise[:, 0])
    wrong = np.flatnonzero(margins > LIMIT * np.maximum(noise, 1e-6 * np.abs(margins).max(initial=0)))
    count = len(margins)
    if not wrong.size:
        return f"all {count} tokens are the truth's own choices"
    first = int(wrong[0])
    (runs,) = run_all(loaded, trial.text, [])
    best, got = largest_at(runs[0], said.rows[first]), next(iter(said.values[first]))
    where = f"token {first} of {count}: {_spelt(loaded, got)} where the truth's is {_spelt(loaded, best)}"
    return f"{where}, a logit of {margins[first]:.3g} above; {len(wrong)} of {count} differ"


def _spelt(loaded: "Loaded", number: int) -> str:
    try:
        return f"{loaded.tokenizer().decode([number])!r} (id {number})"
    except ValueError:  # weights without a tokenizer
        return f"id {number}"


def finding_of(trial: Trial, tap: str, why: str) -> TapFinding:
    """Return the one row of a report on an answer: how far it is from the truth, from the prompt on.

    Args:
        trial: the answer beside the truth.
        tap: its name.
        why: what the row says.
    """
    measures = trial.measures
    size = float(np.sqrt(np.square(measures.truth).sum(where=measures.known)))
    error = float(np.sqrt(np.square(measures.value - measures.truth).sum(where=measures.known)))
    floor = float(np.sqrt(measures.noise.sum(where=measures.known)))
    is_greedy = trial.answer.kind == "greedy"  # there the truth's own margins are the error
    finding = TapFinding(tap, 0, NOT_SAID, verdict="bug" if measures.off > LIMIT else "match", why=why)
    scale = 1.0 if is_greedy or not size else size
    if not is_greedy:
        why += f", {measures.off:.3g} floors off"
    return replace(finding, why=why, inherited=error / scale, floor=floor / scale, inherited_ratio=measures.off)


def _report(answer: ServerAnswer, said: Followed, finding: TapFinding, trial: Trial) -> dict[str, Any]:
    centred = trial.answer.kind != "greedy" and trial.answer.known[0].values.shape[1] >= CENTRED
    notes = [*said.notes, f"{said.prompt} tokens of prompt; after each token that something is said of, it is compared"]
    if centred:
        notes.append("log-probabilities of a token are compared with each other: what is common to them is left out")
    return report_of(finding, trial) | {"producer": {"name": answer.server, "version": NOT_SAID}, "notes": notes}


def report_of(finding: TapFinding, trial: Trial) -> dict[str, Any]:
    """Return what a report says where one value is all that there is.

    Args:
        finding: its row.
        trial: the answer beside the truth.
    """
    is_bug, passes = finding.verdict == "bug", trial.text.passes
    return {
        "verdict": finding.verdict,
        "first": {"tap": finding.tap, "layer": None, "pass": 0} if is_bug else None,
        "taps": [finding.as_json()],
        "diagnosis": [],
        "causes": [],
        "proof": None,
        "bases": [],
        "next": [],
        "tried": {"catalogue": 0, "families": [], "not_tried": []},  # at taps: `from_logits` has its own
        "fits": [],
        "decide": "",
        "compared": {"taps": 1, "of_dump": 1, "of_model": 1},
        "arithmetic": None,
        "coverage": [],
        "settings": [],
        "unaligned": [],
        "passes": [{"ids": one.ids.shape[1], "cached": one.cached} for one in passes],
    }
