"""Ranking: which of the mistakes that were run explains a tap best, and which of them this input cannot tell apart."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ref.diagnosis.evidence import Evidence, candidates, compare_with
from ref.measure.distance import distance_of
from ref.measure.measure_tap import Measured
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.model.taps import row_of
from ref.mutants.base import describe

CLOSE = 1.5  # times what the best leaves, and no more than noise: of those the one with the fewest fitted numbers is it


def evidence_at(pass_runs: PassRuns, tap: str, found: Measured) -> list[Evidence]:
    """Run every mutant that could explain a tap; the best first.

    Args:
        pass_runs: of `prepared`, while its runs hold the tap's inputs.
        tap: its name.
        found: what was measured there.

    Returns:
        Evidence of each mutant that changes something there.
    """
    mutants = candidates(tap, found.finding.span)
    several = side_by_side(lambda one: compare_with(pass_runs, one, tap, found), mutants)
    return ranked(one for one in several if one)


def ranked(several: Iterable[Evidence]) -> list[Evidence]:
    """Order evidence: what explains a tap first, of those that leave as little the one with the fewest free numbers."""
    several = list(several)
    least = min((one.left for one in several if one.explains), default=0.0)

    def place(one: Evidence):
        close = one.explains and one.left <= CLOSE * max(1.0, least)
        return not close, one.free if close else 0, one.left, abs(one.coefficient - 1)

    return sorted(several, key=place)


def classes_of(evidence: list[Evidence], found: Measured) -> list[int]:
    """Number the classes of mutants that this input cannot tell apart: closer to each other than the noise is.

    Args:
        evidence: of one tap.
        found: what was measured there.
    """
    heads: list[Evidence] = []
    out = []
    for one in evidence:
        number = next((i for i, head in enumerate(heads) if _same(one, head, found)), len(heads))
        out.append(number)
        if number == len(heads):
            heads.append(one)
    return out


def _same(a: Evidence, b: Evidence, found: Measured) -> bool:
    if not (a.explains and b.explains) or found.floor is None or a.free != b.free:
        return False
    assert a.value is not None
    assert b.value is not None
    if row_of(a.tap).is_visibility:
        return bool(np.array_equal(a.value, b.value))
    return found.floor.ratio(distance_of(a.value, b.value, a.tap)) <= 1


def conclusions(evidence: list[Evidence], classes: list[int]) -> list[dict[str, Any]]:
    """Turn evidence at one tap into rows of the report: the best class named, those that cannot be it cleared.

    Args:
        evidence: from `evidence_at`.
        classes: from `classes_of`.
    """
    rows = []
    explained = bool(evidence) and evidence[0].explains
    for one, number in zip(evidence, classes, strict=True):
        if explained and number == classes[0]:
            word = "tied" if classes.count(number) > 1 else "named"
        elif explained or abs(one.coefficient) <= max(4 * one.stderr, 0.05):
            word = "cleared"
        else:
            word = "undetermined"
        numbers = {"coefficient": one.coefficient, "stderr": one.stderr, "left": one.left}
        fitted_numbers = [p.as_json() for p in one.hypothesis.parameters] if one.hypothesis else []
        more = {"parameters": fitted_numbers} if fitted_numbers else {}
        more |= {"where": one.hypothesis.where} if one.hypothesis and one.hypothesis.where else {}
        place = {"class": number, "verdict": word, "tap": one.tap, "pass": one.number}
        rows.append(describe(one.mutant) | numbers | place | more)
    return rows
