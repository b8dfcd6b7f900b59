"""Which rank is wrong: what each holds of a tap, measured by itself and on what that rank saw.

All-gather, all-reduce and broadcast give every rank the same bits, and so does what each computes for itself from the
same bits by the same kernel. Replicas that differ are therefore measured one by one: within the noise floor of their
operation they are rounded otherwise, as another kernel or GPU may do, and no bug; beyond it the rank is wrong.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ref.dump.align import RankPart
from ref.emulate.graph import Run
from ref.emulate.one_pass import Unknown
from ref.emulate.products import slices
from ref.measure.distance import distance_of, errors_of, sums_of
from ref.measure.floor import LIMIT, Floor, floor_of
from ref.measure.measure_tap import Measured, conclude, fit_tail, fitted
from ref.measure.pass_runs import PassRuns
from ref.measure.rank_views import own_of, ranks_fed, region, view_of
from ref.measure.rank_words import listed, words_of, words_of_sums
from ref.measure.tap_finding import RankFinding
from ref.model.taps import prefix_of, row_of


class Tap(NamedTuple):
    """A tap that several ranks hold, as it was measured."""

    there: PassRuns
    tap: str
    found: Measured
    valid: np.ndarray  # [tokens]
    columns: np.ndarray | None  # of logits, those that were measured

    @property
    def parts(self) -> tuple[RankPart, ...]:
        """What each rank holds of it."""
        return self.there.stored[self.tap].parts

    def cut(self, value: np.ndarray, part: RankPart) -> np.ndarray:
        """Return the part of a value that a rank holds; of logits some columns."""
        if self.columns is None or part.letter != "V":
            return region(value, part)
        return value[..., (self.columns >= part.start) & (self.columns < part.stop)]

    def put(self, value: np.ndarray, part: RankPart, own: np.ndarray) -> None:
        """Write the part of a value that a rank holds."""
        if self.columns is None or part.letter != "V":
            region(value, part)[...] = own
        else:
            value[..., (self.columns >= part.start) & (self.columns < part.stop)] = own

    def own(self, part: RankPart) -> np.ndarray:
        """Return what a rank holds, as values of the tap."""
        value = part.stored.load()
        if self.columns is not None:
            here = self.columns - (part.start if part.letter == "V" else 0)
            value = value[..., here[(here >= 0) & (here < value.shape[-1])]]
        key = row_of(self.tap).key_axis
        return (
            fit_tail(self.tap, value, self.found.truth) if key is not None and self.found.truth is not None else value
        )


def measure_ranks(there: PassRuns, tap: str, found: Measured, columns: np.ndarray | None = None) -> Measured:
    """Measure what each rank holds of a tap, where they differ or something is wrong.

    Args:
        there: the pass.
        tap: its name.
        found: the whole, as `measure_tap` measured it.
        columns: of logits, those that value and truth are of.

    Returns:
        The same where ranks do not matter. Else its finding says `ranks`; a tap whose inputs differ between ranks is
        measured again, each rank's slice on what that rank saw; and where a replica that was not judged is wrong, it is
        that one which was measured, so that its mistake can be named.

    Source: own.
    """
    stored = there.stored.get(tap)
    if stored is None or not stored.parts or found.finding.overflow:
        return found
    if row_of(tap).integers:
        return _integers(there, tap, found)
    if found.value is None or found.truth is None or found.floor is None:
        return found
    at = Tap(there, tap, found, fitted(there.one_pass, tap, found.value, found.truth)[-1], columns)
    truths = {rank: _truth(at, rank) for rank in sorted(ranks_fed(there, tap) & {one.rank for one in at.parts})}
    with np.errstate(all="ignore"):
        if truths:
            at = at._replace(found=_again(at, truths))
        if at.found.finding.verdict != "bug" and not own_of(there, tap):
            return at.found
        return _concluded(at, truths, _held(at, truths), _sums(at))


def _truth(at: Tap, rank: int) -> np.ndarray:
    """Return the truth on what a rank saw."""
    assert at.found.value is not None
    try:
        return fitted(at.there.one_pass, at.tap, at.found.value, view_of(at.there, rank).recompute(at.tap)[0])[1]
    except Unknown:
        assert at.found.truth is not None
        return at.found.truth


def _again(at: Tap, truths: dict[int, np.ndarray]) -> Measured:
    """Measure the whole again, each slice against the truth on what its rank saw."""
    found, seen = at.found, set[int]()
    assert found.truth is not None
    truth = found.truth.copy()
    whole = any(one.kind == "replica" for one in at.parts)
    for one in at.parts:
        if whole or one.kind != "slice" or one.start in seen:  # a replica is the first rank's, whose truth it has
            continue
        seen.add(one.start)
        if one.rank in truths:
            at.put(truth, one, at.cut(truths[one.rank], one))
    if np.array_equal(truth, found.truth, equal_nan=True):
        return found
    assert found.value is not None
    assert found.floor is not None
    distance = distance_of(found.value, truth, at.tap, at.valid)
    ratio = found.floor.ratio(distance)
    finding = replace(found.finding, verdict="match", why="", local=distance.whole, local_ratio=ratio)
    return found._replace(finding=conclude(finding, truth), truth=truth)


def _held(at: Tap, truths: dict[int, np.ndarray]) -> list[RankFinding]:
    """Measure each rank's slice or replica by itself."""
    found, own, rows = at.found, {id(one) for one in own_of(at.there, at.tap)}, []
    assert found.value is not None
    assert found.truth is not None
    for one in at.parts:
        if one.partial:
            continue
        judged, truth = at.cut(found.value, one), at.cut(truths.get(one.rank, found.truth), one)
        value = at.own(one) if id(one) in own else judged
        floor = _floor(at, one, truth)
        apart = distance_of(value, judged, at.tap).whole if id(one) in own else None
        rows.append(_row(one, floor.ratio(distance_of(value, truth, at.tap, _valid(at, one))), apart))
    return rows


def _valid(at: Tap, part: RankPart) -> np.ndarray:
    return at.valid[part.start : part.stop] if part.letter == "T" else at.valid


def _floor(at: Tap, part: RankPart, truth: np.ndarray) -> Floor:
    """Return the floor of a slice: that of the valid runs there. A replica has that of the whole."""
    assert at.found.floor is not None
    assert at.found.truth is not None
    if not part.letter:
        return at.found.floor
    valid, whole = _valid(at, part), at.cut(at.found.truth, part)
    errors = [errors_of(sums_of(at.cut(run, part), whole, at.tap, valid)) for run in at.found.runs]
    return floor_of(errors, truth, at.found.finding.dtype, at.tap, valid)


def _row(part: RankPart, ratio: float, apart: float | None = None) -> RankFinding:
    return RankFinding(
        part.rank, part.stage, part.kind, part.letter, part.start, part.stop, ratio, ratio > LIMIT, apart
    )


def _sums(at: Tap) -> list[RankFinding]:
    """Measure each rank's part of a sum: the product of its slice of the inputs."""
    sums = [one for one in at.parts if one.partial]
    source = prefix_of(at.tap) + "".join(row_of(at.tap).inputs[:1])
    if not sums or row_of(at.tap).op != "linear" or at.columns is not None:
        return []
    try:
        x = at.there.local.value(source)
    except Unknown:
        return []
    return [_of_sum(at, one, source, x, len(sums)) for one in sums]


def inputs_of_rank(there: PassRuns, source: str, rank: int, length: int, count: int) -> slice:
    """Return which of its inputs a rank multiplies: the slice that it holds of them, or one of equal ones."""
    stored = there.stored.get(source)
    own = [one for one in stored.parts if one.rank == rank and one.letter in ("N", "F")] if stored else []
    if own:
        return slice(own[0].start, own[0].stop)
    cuts = slices(length, count)
    return cuts[rank] if rank < len(cuts) else slice(length, length)


def _of_sum(at: Tap, part: RankPart, source: str, x: np.ndarray, count: int) -> RankFinding:
    here = inputs_of_rank(at.there, source, part.rank, x.shape[2], count)
    masked = np.zeros_like(x)
    masked[:, :, here] = x[:, :, here]

    def product(like: Run) -> np.ndarray:
        run = Run(like.one_pass, like.arithmetic, {source: lambda: masked}, like.before, heard=like.heard)
        run.prefix, run.weights = like.prefix, like.weights
        return run.compute(at.tap)

    truth = product(at.there.local)
    errors = [errors_of(sums_of(product(run), truth, at.tap, at.valid)) for run in at.there.locals]
    floor = floor_of(errors, truth, part.stored.dtype, at.tap, at.valid)
    return _row(part, floor.ratio(distance_of(at.own(part), truth, at.tap, at.valid)))


def _concluded(at: Tap, truths: dict[int, np.ndarray], held: list[RankFinding], sums: list[RankFinding]) -> Measured:
    """Say which ranks are off; where the value that was judged is right and another rank's is not, take that one."""
    found, apart = at.found, any(one.apart is not None for one in held)
    some = any(one.off for one in held) and not all(one.off for one in held)
    if found.finding.verdict != "bug" and some:
        worst = max(held, key=lambda one: one.floors)
        part = next(one for one in own_of(at.there, at.tap) if (one.rank, one.stage) == (worst.rank, worst.pipeline))
        return _of_rank(at, part, truths.get(part.rank), [*held, *sums])
    if found.finding.verdict != "bug":
        return found._replace(finding=replace(found.finding, ranks=tuple(held) if apart else ()))
    if not (some or apart or sums):
        return found
    why = words_of(held) if some or not sums else words_of_sums(sums)
    return found._replace(finding=replace(found.finding, ranks=(*held, *sums), why=why))


def _of_rank(at: Tap, part: RankPart, truth: np.ndarray | None, rows: list[RankFinding]) -> Measured:
    """Return what is found of the tap as one rank sees it."""
    found = at.found
    assert found.value is not None
    assert found.floor is not None
    value, truth = found.value.copy(), found.truth if truth is None else truth
    assert truth is not None
    at.put(value, part, at.own(part))
    distance = distance_of(value, truth, at.tap, at.valid)
    ratio = found.floor.ratio(distance)
    local = {"local": distance.whole, "local_ratio": ratio}
    finding = replace(found.finding, verdict="bug", why=words_of(rows), ranks=tuple(rows), **local)
    return found._replace(finding=finding, value=value, truth=truth)


def _integers(there: PassRuns, tap: str, found: Measured) -> Measured:
    """Call integers a bug that differ between ranks: there is no noise in them."""
    own = own_of(there, tap)
    if not own or found.finding.verdict != "match":
        return found
    rows = [
        RankFinding(one.rank, one.stage, one.kind, one.letter, one.start, one.stop, np.inf, True, 1.0) for one in own
    ]
    ranks = listed([one.rank for one in own])
    why = f"on {ranks} unlike the others, which match"
    return found._replace(finding=replace(found.finding, verdict="bug", why=why, ranks=tuple(rows)), value=None)
