"""One judgement: the passes of a dump gone through by one arithmetic, and again by another where that explains more."""

from functools import partial
from typing import NamedTuple

from ref.diagnosis.find_arithmetic import (
    ENDS,
    PRODUCTS,
    SAME,
    Finding,
    OtherArithmetic,
    involves,
    products_off,
    summed_in_float16,
)
from ref.emulate.stages import stages_of, taps_of
from ref.judge.ahead import Ahead
from ref.judge.case import Case, Question
from ref.judge.hearing import Hearing
from ref.judge.in_turn import InTurn
from ref.judge.jobs import Names
from ref.judge.shard import ShardRow
from ref.judge.spread import ALONE, Helped, source_of
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import tap_group

Profiles = dict[tuple[int, str], dict[str, list[float]]]


class Judgement(NamedTuple):
    """What was found."""

    findings: list[TapFinding]  # passes one after the other, each in the order of execution
    profiles: Profiles
    hearing: Hearing
    all_runs: list[PassRuns]
    family: str  # whose runs made the floors
    finding: Finding | None  # the arithmetic that the dump has and does not declare
    partly: bool = False  # some products have it, others have not
    cut: str = ""  # the first stage at which nothing is known from the prompt, as some before it were left out


def judge_dump(question: Question, family: str, names: Names | None = None, by: Helped = ALONE) -> Judgement:
    """Judge by the arithmetic that a dump declares; where another explains its products, by that.

    Args:
        question: what is judged.
        family: a key of FAMILIES or POLICIES, by the dump's own words.
        names: the question by names, for workers.
        by: who does its jobs, and what keeps them; this process does all if nobody says so.

    Returns:
        The judgement, by the declared arithmetic where only some products have the other.

    Source: own; TF32 is torch's `set_float32_matmul_precision("high")` and JAX's default on NVIDIA's GPUs.
    """
    finding, tried, now = None, [family], family
    go_through = partial(_go_through, question, names, by)
    while True:
        try:
            found = go_through(now, finding, tried)
        except OtherArithmetic as other:
            finding = other.finding
        else:
            sums = None if finding else summed_in_float16(found.findings, _tokens(found))
            if sums is None:
                break
            finding = sums
        now = finding.hypothesis.family
        tried.append(now)
    if finding is None or _everywhere(found):
        return found
    if tap_group(finding.tap) not in finding.hypothesis.groups:  # nothing but a guess, and it was wrong
        return go_through(family, None, None)
    return go_through(family, finding, None)._replace(partly=True)


def _everywhere(found: Judgement) -> bool:
    """Tell whether all products that a finding speaks of are as far off as its arithmetic makes them."""
    assert found.finding is not None
    finding = found.finding
    groups = finding.hypothesis.groups - (ENDS if finding.hypothesis.groups == PRODUCTS else set())
    here = [one for one in found.findings if involves(one, groups)]
    if not here:  # the ends alone tell nothing of what lies between
        return tap_group(finding.tap) not in ENDS
    sure = tap_group(finding.tap) in finding.hypothesis.groups or all(one.verdict != "bug" for one in here)
    return sure and products_off(here, groups, _tokens(found), SAME)


def _tokens(found: Judgement) -> list[int]:
    """Return how many rows the products of each pass have; a tower's always several."""
    return [
        max(pass_runs.one_pass.ids.shape[1], 2 * bool(pass_runs.one_pass.places.any())) for pass_runs in found.all_runs
    ]


def _go_through(
    question: Question,
    names: Names | None,
    by: Helped,
    family: str,
    finding: Finding | None,
    tried: list[str] | None,
) -> Judgement:
    case = Case(question, family)
    hearing = Hearing(case, tried)
    with source_of(case, names, by) as source:
        rows = _heard(case, hearing, source)
    hearing.over()
    profiles = {row.finding.place: row.profile for row in rows}
    findings = [hearing.bases.changed.get(row.finding.place, row.finding) for row in rows]
    order = {name: i for i, name in enumerate(_all_taps(case.all_runs))}
    findings.sort(key=lambda one: (one.pass_number, order[one.tap]))
    return Judgement(findings, profiles, hearing, case.all_runs, family, finding, cut=case.first_cut)


def _heard(case: Case, hearing: Hearing, source: InTurn | Ahead) -> list[ShardRow]:
    """Go through the stages in the order of execution."""
    total = sum(len(case.taps_at(one, stage)) for stage in case.stages for one in case.all_runs)
    rows: list[ShardRow] = []
    for stage in case.stages:
        judged = source.judged(stage, hearing.coverage.shown)
        heard = hearing.take(stage, judged.rows, judged.boundary, judged.made)
        if heard.left is not None:
            source.correct(stage, heard.left)
        rows += heard.rows
        if case.question.progress:
            case.question.progress(len(rows), total)
    return rows


def _all_taps(all_runs) -> list[str]:
    names: dict[str, None] = {}
    for pass_runs in all_runs:
        for stage in stages_of(pass_runs.one_pass):
            names |= dict.fromkeys(taps_of(stage, True, True))
    return list(names)
