"""Hearing: what is wrong is looked at once more, in the order of execution, by those who remember what was before."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from ref.diagnosis.bases import Bases
from ref.diagnosis.below_floor import BelowFloor
from ref.diagnosis.coverage import Coverage, can_cover, cover, is_first, kind_of
from ref.diagnosis.diagnose import Diagnoses
from ref.diagnosis.find_arithmetic import OtherArithmetic, explained_by
from ref.emulate.stages import Stage
from ref.judge.boundary import Boundary
from ref.judge.case import Case, taps_at
from ref.judge.shard import ShardRow, enter, finish, listen, measure_any
from ref.measure.measure_tap import Measured
from ref.measure.pass_by import pass_by
from ref.measure.pass_runs import PassRuns

PROPOSED = 12  # bad taps for which another arithmetic is looked for: the first products tell


class Heard(NamedTuple):
    """A stage that was taken note of."""

    rows: list[ShardRow]  # what was found at each tap, after all
    left: Boundary | None  # what it leaves after all; None: what it left when it was judged by itself


class Hearing:
    """What is remembered while a dump is gone through.

    Args:
        case: dump and weights; its runs are used for what is looked at once more.
        tried: arithmetics that are not to be proposed; None proposes none.
    """

    def __init__(self, case: Case, tried: list[str] | None = None):
        self.case, self.tried, self.proposed = case, tried, 0
        self.hidden, self.coverage = BelowFloor(), Coverage()
        self.diagnoses, self.bases = Diagnoses(), Bases()
        self.diagnoses.passes = case.all_runs
        self.passes = {one.number: one for one in case.all_runs}

    def take(
        self, stage: Stage, rows: Iterable[ShardRow], boundary: Callable[[], Boundary], made: Iterable[int]
    ) -> Heard:
        """Take note of a stage that was judged by itself.

        Where something is wrong, or a value is in another basis, the stage is gone through again with all that is
        remembered of those before it.

        Args:
            stage: which; stages come in the order of execution.
            rows: what was found in it.
            boundary: returns what the stage before left.
            made: numbers of the valid runs from the prompt that the boundary is of.

        Raises:
            OtherArithmetic: a product is explained by another arithmetic.
        """
        rows = list(rows)
        if not self.bases.kept and not any(map(self._is_loud, rows)):
            return Heard([self._quiet(row) for row in rows], None)
        chains = [chain for _, chain in self.case.here(stage)]
        enter(self.case, stage, chains, boundary(), made)
        heard, basis, by_place = [], bool(self.bases.kept), {row.finding.place: row for row in rows}
        for pass_runs, tap in ((one, tap) for chain in chains for one in chain for tap in taps_at(one, stage)):
            row = by_place.get((pass_runs.number, tap))
            if row is None:  # nobody asked for it
                pass_by(pass_runs, tap)
                continue
            if self._is_loud(row) or self.bases.keeps(row.finding.pass_number):
                row = self._again(pass_runs, row)
                basis |= bool(self.bases.kept)
            else:
                pass_by(pass_runs, tap)
                row = self._quiet(row)
            heard.append(row)
        for pass_runs in (one for chain in chains for one in chain):
            self._end(pass_runs, stage.prefix)
        return Heard(heard, finish(stage, chains, basis) if basis else None)

    def over(self) -> None:
        """Take note of the end: what has not cancelled by now never does."""
        for pass_runs in self.case.all_runs:
            self.bases.finish(pass_runs, "")
            pass_runs.forget()

    def _is_loud(self, row: ShardRow) -> bool:
        """Tell whether something is to be done about a tap, beyond what was done when it was measured.

        Nothing is where it was measured from the prompt on alone: of its operation nobody knows.
        """
        if row.finding.verdict == "bug":
            return row.finding.local is not None
        kind = kind_of(self.passes[row.finding.pass_number], row.finding.tap)
        return row.coverable and row.covered is None and kind not in self.coverage.kinds

    def _quiet(self, row: ShardRow) -> ShardRow:
        self.hidden.take(row.below)
        if row.covered is not None:
            self.coverage.take(kind_of(self.passes[row.finding.pass_number], row.finding.tap), row.covered)
        return row

    def _again(self, pass_runs: PassRuns, row: ShardRow) -> ShardRow:
        """Measure a tap again, and take note of what is found while the runs still hold its inputs."""
        tap, seconds = row.finding.tap, row.finding.seconds
        found = measure_any(pass_runs, tap)
        found = self.bases.follow(pass_runs, tap, found) or found
        self._measured_again()
        finding = found.finding
        if finding.verdict == "bug" and found.value is not None and not finding.nonfinite:
            self._propose(pass_runs, tap, found)
            found = self._diagnose(pass_runs, tap, found)
        else:
            self.hidden.take(listen(self.case, pass_runs, tap, found))
        kind = kind_of(pass_runs, tap)
        if can_cover(found) and (kind not in self.coverage.kinds or is_first(pass_runs, tap)):
            self.coverage.take(kind, cover(pass_runs, tap, found, self.coverage.shown))
        return row._replace(finding=replace(found.finding, seconds=seconds), profile=found.profile)

    def _end(self, pass_runs: PassRuns, prefix: str) -> None:
        """Take note of the end of a stage: what is in another basis must have cancelled in it.

        Outside layers it may cancel later: what the final norm leaves in the head.
        """
        if prefix not in ("", "text."):
            self.bases.finish(pass_runs, prefix)

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
