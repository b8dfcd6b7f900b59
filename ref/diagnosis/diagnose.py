"""The diagnosis of every operation that is wrong: known mistakes, then those with parameters, then parts of a tap."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ref.diagnosis.behind import BEHIND, behind
from ref.diagnosis.evidence import Evidence, candidates, compare_hypothesis, prepared
from ref.diagnosis.ranking import CLOSE, classes_of, evidence_at, ranked
from ref.diagnosis.simple_fits import fits_of
from ref.diagnosis.subsets import few_for_parts, parts_at
from ref.diagnosis.tried import Tried
from ref.emulate.one_pass import Unknown
from ref.errors import one_line
from ref.hypotheses.families import families_at
from ref.hypotheses.hypothesis import Clue, Hypothesis, clue_at
from ref.hypotheses.visible import seen_hypotheses
from ref.measure.floor import LIMIT
from ref.measure.measure_tap import Measured
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import row_of, tap_group

SEEN, HALVES = "what is seen", {"weights of another tensor", "gains of another norm"}
PARTS, FAILED = "parts of a tap", "it failed on this input"
NOT_FINITE = "needs finite values, got some that are not"
WHOLE = 4  # taps of one group for which everything is tried in vain: those after them would tell the same
RUN = 6  # hypotheses of one family that are run at a tap


class Diagnosis(NamedTuple):
    """What is known of one tap that is off."""

    finding: TapFinding
    evidence: list[Evidence]  # the best first; holds no arrays
    classes: list[int]
    fits: list[dict[str, Any]]

    @property
    def best(self) -> Evidence | None:
        """What explains the tap best; None where nothing does."""
        return self.evidence[0] if self.evidence and self.evidence[0].explains else None

    @property
    def tied(self) -> list[Evidence]:
        """What explains it as well as the best does, the best included."""
        if self.best is None:
            return []
        return [one for one, number in zip(self.evidence, self.classes, strict=True) if number == self.classes[0]]

    @property
    def alternatives(self) -> list[Evidence]:
        """What explains it, too, with more free numbers; what ties with the best included."""
        best = self.best
        if best is None:
            return []
        return [one for one in self.evidence if one.explains and one.left <= CLOSE * max(1.0, best.left)]


class Diagnoses:
    """Diagnoses taps as they are found to be wrong. What explained a tap is tried first at the next of its kind."""

    def __init__(self) -> None:
        self.passes: Sequence[PassRuns] = ()
        self.found: list[Diagnosis] = []
        self.tried = Tried()
        self.vain: Counter[str] = Counter()
        self.seen: list[Hypothesis] = []  # with their numbers
        self.known: dict[str, None] = {}  # names of mutants and families that explained a tap before

    def at(self, pass_runs: PassRuns, tap: str, found: Measured) -> Diagnosis:
        """Diagnose one tap.

        Args:
            pass_runs: the pass, while its runs hold the tap's inputs.
            tap: its name.
            found: what was measured there.
        """
        group = tap_group(tap)
        evidence: list[Evidence] = []
        if found.floor is not None and found.value is not None and self.vain[group] < WHOLE:
            there = prepared(pass_runs, tap)
            evidence = self._as_before(there, tap, found) or self._everything(there, tap, found)
        if found.finding.ranks:  # what some ranks have is no basis of the model
            evidence = [_without_basis(one) for one in evidence]
        explained = bool(evidence) and evidence[0].explains
        self.vain[group] += not explained
        fits = [] if explained or found.truth is None or found.value is None else self._fits(pass_runs, tap, found)
        classes = classes_of(evidence, found)
        told = Diagnosis(found.finding, [one._replace(value=None) for one in evidence], classes, fits)
        self.found.append(told)
        if explained:
            self.seen += [one.hypothesis for one in told.tied if one.hypothesis]
            for one in told.tied:
                self.known.setdefault(one.hypothesis.family if one.hypothesis else one.mutant.name)
        return told

    def _as_before(self, there: PassRuns, tap: str, found: Measured) -> list[Evidence]:
        """Try what explained other taps; nothing where it does not explain this one."""
        mutants = [one for one in candidates(tap, found.finding.span) if one.name in self.known]
        several = [Hypothesis(one) for one in mutants]
        # what lies behind a tap is fitted by many runs: the number of another layer may do, and each once
        several += {(one.mutant.name, one.parameters): one for one in self.seen if one.family == BEHIND}.values()
        evidence = ranked(
            one for one in side_by_side(lambda one: compare_hypothesis(there, one, tap, found), several) if one
        )
        if self.known and not (evidence and evidence[0].explains):
            evidence = self._families(there, tap, found, evidence, only=set(self.known))
        best = evidence[0] if evidence else None
        if best is None or not best.explains:
            return []
        fitted = best.hypothesis
        return evidence if fitted is None or any(fitted.agrees(one) for one in self.seen) else []

    def _everything(self, there: PassRuns, tap: str, found: Measured) -> list[Evidence]:
        evidence = evidence_at(there, tap, found)
        self.tried.catalogue |= {one.mutant.name for one in evidence}
        if evidence and evidence[0].explains and evidence[0].left <= LIMIT:
            if len(evidence[0].mutant.rules) > 1:  # half of an exchange is another mistake
                return self._families(there, tap, found, evidence, only=HALVES)
            return evidence
        evidence = self._families(there, tap, found, evidence)
        clue = clue_at(there, tap, found, self.passes)
        if clue is not None and found.finding.span and not (evidence and evidence[0].explains):
            self.tried.families[BEHIND] = None
            several = self._drawn(BEHIND, lambda: behind(clue, found.finding.span))
            evidence = ranked([*evidence, *(one for one in self._run(there, several, tap, found) if one)])
        if clue is not None and not (evidence and evidence[0].explains):
            evidence = ranked([*evidence, *self._parts(clue, evidence)])
        return evidence

    def _parts(self, clue: Clue, evidence: list[Evidence]) -> list[Evidence]:
        """Look for a part of a tap that has a mistake, and run it."""
        why = few_for_parts(clue)
        if why:
            self.tried.leave(PARTS, why, 2)
            return []
        self.tried.families[PARTS] = None
        several = list(self._drawn(PARTS, lambda: parts_at(clue, evidence)))
        return [one for one in self._run(clue.there, several, clue.tap, clue.found) if one]

    def _families(
        self, there: PassRuns, tap: str, found: Measured, evidence: list[Evidence], only: set[str] | None = None
    ) -> list[Evidence]:
        """Fit the families of a tap and run what they propose."""
        if row_of(tap).is_visibility:
            self.tried.families[SEEN] = None
            several = self._drawn(SEEN, lambda: seen_hypotheses(there, tap, found))
            several = several if only is None or SEEN in only else []
        elif found.finding.overflow or (clue := clue_at(there, tap, found, self.passes)) is None:
            several = []
            for family in families_at(tap_group(tap)):
                if family.only is None:
                    self.tried.leave(family.name, NOT_FINITE)
        else:
            several = self._proposed(clue, only)
        return ranked([*evidence, *(one for one in self._run(there, several, tap, found) if one)])

    def _run(self, there: PassRuns, several: list[Hypothesis], tap: str, found: Measured) -> Iterator[Evidence | None]:
        """Run mistakes with their parameters; one that cannot be run on this input is said to be so."""
        for one in several:
            try:
                with np.errstate(all="ignore"):
                    evidence = compare_hypothesis(there, one, tap, found)
            except Exception as error:  # a guess of ours that fails must not cost the verdict
                self._failed(one.family or one.mutant.name, error)
            else:
                yield evidence

    def _drawn(self, family: str, fit: Callable[[], Iterator[Hypothesis]], most: int | None = None) -> list[Hypothesis]:
        """Fit one family; a value that is not known, or numbers without a solution, give nothing."""
        try:
            with np.errstate(all="ignore"):  # of huge values
                return [one._replace(family=family) for one in itertools.islice(fit(), most)]
        except Unknown:
            pass
        except Exception as error:  # see `_run`
            self._failed(family, error)
        return []

    def _failed(self, family: str, error: Exception) -> None:
        self.tried.families.pop(family, None)
        self.tried.not_tried[family] = f"{FAILED}: {one_line(error)}"

    def _proposed(self, clue: Clue, only: set[str] | None) -> list[Hypothesis]:
        several: list[Hypothesis] = []
        for family in families_at(clue.group):
            if (only is not None and family.name not in only) or (family.only and not family.only(clue)):
                continue
            why = family.lacks(clue)
            if why:
                self.tried.leave(family.name, why, family.tokens if len(clue.tokens()) < family.tokens else 0)
                continue
            self.tried.families[family.name] = None
            several += self._drawn(family.name, partial(family.fit, clue), RUN)
        return several

    def _fits(self, pass_runs: PassRuns, tap: str, found: Measured) -> list[dict[str, Any]]:
        if row_of(tap).is_visibility or found.floor is None or found.value is None or found.truth is None:
            return []
        with np.errstate(all="ignore"):
            more = fits_of(found.value, found.truth, found.floor, tap, found.finding.local_ratio or 0.0)
        return [fit | {"tap": tap, "pass": pass_runs.number} for fit in more]


def _without_basis(one: Evidence) -> Evidence:
    return one._replace(hypothesis=one.hypothesis._replace(basis=None)) if one.hypothesis else one
