"""One judgement: the passes of a dump gone through by one arithmetic, and again by another where that explains more."""

import time
from dataclasses import replace
from typing import Any, NamedTuple

from ref.diagnosis.bases import Bases
from ref.diagnosis.below_floor import BelowFloor
from ref.diagnosis.coverage import Coverage
from ref.diagnosis.diagnose import Diagnoses
from ref.diagnosis.find_arithmetic import (
    ENDS,
    PRODUCTS,
    SAME,
    Finding,
    OtherArithmetic,
    explained_by,
    involves,
    products_off,
    summed_in_float16,
)
from ref.dump.opened import Dump
from ref.emulate.arithmetic import emulate
from ref.emulate.one_pass import OnePass, pass_of
from ref.emulate.policy import members_of
from ref.emulate.stages import stages_of, taps_of
from ref.judge.needed_memory import check_memory
from ref.judge.walk import walk
from ref.measure.measure_tap import Measured
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import tap_group
from ref.ops.visibility import Composition

Profiles = dict[tuple[int, str], dict[str, list[float]]]
PROPOSED = 12  # bad taps for which another arithmetic is looked for: the first products tell


class Question(NamedTuple):
    """What is judged, and by what."""

    dump: Dump
    loaded: Any
    held: str  # the dtype that the producer held its weights in
    composition: Composition
    progress: Any = None  # called with a number of done and of all taps
    memory: str | int | None = None  # that may be used; None: what is available


class Judgement(NamedTuple):
    """What was found."""

    findings: list[TapFinding]  # passes one after the other, each in the order of execution
    profiles: Profiles
    hearing: "Hearing"
    all_runs: list[PassRuns]
    family: str  # whose runs made the floors
    finding: Finding | None  # the arithmetic that the dump has and does not declare
    partly: bool = False  # some products have it, others have not


def judge_dump(question: Question, family: str) -> Judgement:
    """Judge by the arithmetic that a dump declares; where another explains its products, by that.

    Args:
        question: what is judged.
        family: a key of FAMILIES or POLICIES, by the dump's own words.

    Returns:
        The judgement, by the declared arithmetic where only some products have the other.

    Source: own; TF32 is torch's `set_float32_matmul_precision("high")` and JAX's default on NVIDIA's GPUs.
    """
    finding, tried, now = None, [family], family
    while True:
        try:
            found = _go_through(question, now, finding, tried)
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
        return _go_through(question, family, None, None)
    return _go_through(question, family, finding, None)._replace(partly=True)


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


def _go_through(question: Question, family: str, finding: Finding | None, tried: list[str] | None) -> Judgement:
    all_runs = _runs_of_passes(question, family)
    check_memory(all_runs, question.memory)
    hearing = Hearing(family, tried)
    findings, profiles = _measure(all_runs, question, hearing)
    return Judgement(findings, profiles, hearing, all_runs, family, finding)


def known_taps(one_pass: OnePass) -> set[str]:
    """List the taps that a pass of this model may have."""
    images = bool(one_pass.places.any())
    return {tap for stage in stages_of(one_pass) for tap in taps_of(stage, True, images)}


def possible_taps(one_pass: OnePass) -> set[str]:
    """List the taps that a pass of this kind has when every value is recorded."""
    cached, images = one_pass.cached > 0, bool(one_pass.places.any())
    return {tap for stage in stages_of(one_pass) for tap in taps_of(stage, cached, images)}


def _runs_of_passes(question: Question, family: str) -> list[PassRuns]:
    all_runs: list[PassRuns] = []
    members = [emulate(policy, order) for policy, order in members_of(family)]  # they share what they make of weights
    for one in question.dump.passes:
        before = all_runs[-1] if one.cached else None
        one_pass = _one_pass(one, question, before.one_pass if before else None)
        known = known_taps(one_pass)
        stored = {tap: tensor for tap, tensor in one.tensors.items() if tap in known}
        pass_runs = PassRuns(one.number, one_pass, stored, members, before)
        pass_runs.partial = {
            tap: shown for tap, shown in question.dump.partial.get(one.number, {}).items() if tap in known
        }
        all_runs.append(pass_runs)
    return all_runs


def _one_pass(one, question: Question, before: OnePass | None) -> OnePass:
    return pass_of(
        question.loaded,
        one.ids,
        positions=one.positions,
        cached=one.cached,
        left_pads=one.left_pads,
        blocks=one.image_blocks or None,
        pixels=one.pixels,
        composition=question.composition,
        held=question.held if question.held in ("bfloat16", "float16") else "file",
        before=before,
        kept=one.kept.index if one.kept and before else None,
        moved=one.kept.moved if one.kept and before else None,
    )


class Hearing:
    """What listens while the judge goes through a dump.

    Args:
        family: whose runs make the floors.
        tried: arithmetics that are not to be proposed; None proposes none.
    """

    def __init__(self, family: str, tried: list[str] | None = None):
        self.tried, self.proposed = tried, 0
        self.hidden, self.coverage = BelowFloor(), Coverage()
        policy = members_of(family)[0][0]
        # errors of rounded operands are alike along whole rows: a projection would take them for a mistake
        self.low = policy.stored in ("bfloat16", "float16") and policy.operands == "stored"
        self.diagnoses, self.bases = Diagnoses(), Bases()

    def __call__(self, pass_runs: PassRuns, tap: str, found: Measured) -> Measured:
        """Take note of what was measured at a tap, while the runs still hold its inputs.

        Returns:
            The same; of a value in another basis what was measured after it was undone.
        """
        found = self.bases.follow(pass_runs, tap, found) or found
        self._measured_again()
        finding = found.finding
        if finding.verdict == "bug" and found.value is not None and not finding.nonfinite:
            self._propose(pass_runs, tap, found)
            found = self._diagnose(pass_runs, tap, found)
        elif self.low and not finding.why:
            self.hidden.listen(pass_runs, tap, found)
        if found.finding.verdict == "match" and found.value is not None and not found.finding.why:
            self.coverage.listen(pass_runs, tap, found)
        return found

    def end(self, pass_runs: PassRuns, prefix: str) -> None:
        """Take note of the end of a stage: what is in another basis must have cancelled in it.

        Outside layers it may cancel later: what the final norm leaves in the head.
        """
        if prefix not in ("", "text."):
            self.bases.finish(pass_runs, prefix)

    def over(self, pass_runs: PassRuns) -> None:
        """Take note of the end of a pass: what has not cancelled by now never does."""
        self.bases.finish(pass_runs, "")

    def _diagnose(self, pass_runs: PassRuns, tap: str, found: Measured) -> Measured:
        """Say what a wrong tap is; where another basis may be all of it, go on in that basis."""
        best = self.diagnoses.at(pass_runs, tap, found).best
        if best and best.hypothesis and best.hypothesis.basis is not None and tap in pass_runs.stored:
            return self.bases.begin(pass_runs, found, best.hypothesis)
        return found

    def _measured_again(self) -> None:
        for pass_runs, tap, found in self.bases.again:
            self.diagnoses.at(pass_runs, tap, found)
        self.bases.again.clear()

    def _propose(self, pass_runs: PassRuns, tap: str, found: Measured) -> None:
        """Stop where another arithmetic explains a product: all that follows is then judged by that."""
        self.proposed += 1
        if self.tried is None or self.proposed > PROPOSED:
            return
        finding = explained_by(pass_runs, tap, found, self.tried)
        if finding:
            raise OtherArithmetic(finding)


def _measure(all_runs: list[PassRuns], question: Question, hearing: Hearing):
    findings: list[TapFinding] = []
    profiles = {}
    hearing.diagnoses.passes = all_runs
    total = sum(len(pass_runs.stored) + len(pass_runs.partial) for pass_runs in all_runs)
    begin = time.perf_counter()
    for found in walk(all_runs, question.loaded, all_runs[0].one_pass.held, hearing):
        findings.append(replace(found.finding, seconds=round(time.perf_counter() - begin, 3)))
        begin = time.perf_counter()
        profiles[found.finding.place] = found.profile
        if question.progress:
            question.progress(len(findings), total)
    for pass_runs in all_runs:
        hearing.over(pass_runs)
    findings = [hearing.bases.changed.get(one.place, one) for one in findings]
    order = {name: i for i, name in enumerate(_all_taps(all_runs))}
    findings.sort(key=lambda one: (one.pass_number, order[one.tap]))
    return findings, profiles


def _all_taps(all_runs) -> list[str]:
    names: dict[str, None] = {}
    for pass_runs in all_runs:
        for stage in stages_of(pass_runs.one_pass):
            names |= dict.fromkeys(taps_of(stage, True, True))
    return list(names)
