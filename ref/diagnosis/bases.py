"""Other bases: values that a port keeps in another order, or times other signs or factors, and rightly so.

A permutation of heads that the output projection undoes is no mistake. Where one explains a tap it is undone, and what
follows is judged on the undone values, up to the operation where it must cancel. If it does, the tap is no bug.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ref.diagnosis.diagnose import Diagnosis
from ref.diagnosis.evidence import Evidence
from ref.diagnosis.kept import (
    Kept,
    able_changes,
    inherited_changes,
    is_right_as_it_is,
    is_rounded_again,
    own_weights,
    store,
    undone,
    usual_inputs,
)
from ref.emulate.graph import RULES
from ref.emulate.text_rules import NORMS
from ref.hypotheses.change import Change
from ref.hypotheses.hypothesis import Hypothesis, Parameter, mutant_of
from ref.measure.floor import LIMIT
from ref.measure.measure_logits import measure
from ref.measure.measure_tap import Measured
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import layer_of, row_of, tap_group

AGAIN = "within what weights cost that factors were folded into and that were rounded again"
MUCH = 50  # times less than before is little, too: scales read off small gains are not exact
LEAST = 1e-3  # a gain smaller than that says nothing of what it was divided by


class Bases:
    """Follows values in another basis through a layer."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, str], Kept] = {}  # whose basis has not cancelled yet
        self.done: dict[tuple[int, str], tuple[Kept, str]] = {}  # and where it cancelled
        self.made: dict[tuple[int, str], TapFinding] = {}  # of those taps, on undone values
        self.changed: dict[tuple[int, str], TapFinding] = {}  # findings that were made earlier and hold no longer
        self.bugs: list[Diagnosis] = []  # of those
        self.again: list[tuple[PassRuns, str, Measured]] = []  # taps that were measured again, to be diagnosed

    def keeps(self, number: int) -> bool:
        """Tell whether a pass has values in another basis that has not cancelled yet."""
        return any(key[0] == number for key in self.kept)

    def parents(self, pass_runs: PassRuns, tap: str, span: tuple[str, ...]) -> list[Kept]:
        """List the values in another basis that a tap was made from."""
        if not self.kept:
            return []
        names: set[str] = set()
        for one in (tap, *span):
            names |= set(pass_runs.local.inputs.get(one, {})) | usual_inputs(one)
        if tap.endswith("attn.scores"):  # keys and values are looked up together
            names = {name for name in names if not name.endswith((".attn.v", ".cache.v"))}
        if tap.endswith("attn.mix") and pass_runs.local.is_given(tap.removesuffix("mix") + "probs"):
            names = {name for name in names if not name.endswith((".attn.k_rope", ".cache.k"))}
        return [self.kept[pass_runs.number, name] for name in names if (pass_runs.number, name) in self.kept]

    def begin(self, pass_runs: PassRuns, found: Measured, hypothesis: Hypothesis) -> Measured:
        """Undo a basis where it begins, and measure the tap again."""
        finding = found.finding
        assert hypothesis.basis is not None
        kept = Kept(
            pass_runs.number, finding.tap, hypothesis.basis, frozenset({finding.tap}), hypothesis.mutant.what,
            pass_runs.stored[finding.tap], before=finding,
        )  # fmt: skip
        again = self._undo(pass_runs, kept)
        if again.finding.verdict == "match":
            for one in self.parents(pass_runs, finding.tap, finding.span):  # they have cancelled here
                self.done[one.number, one.tap] = one, finding.tap
        return again

    def follow(self, pass_runs: PassRuns, tap: str, found: Measured) -> Measured | None:
        """Judge a tap that was made from values in another basis; None where it is a bug of its own.

        Args:
            pass_runs: the pass.
            tap: its name.
            found: what was measured, on undone inputs.
        """
        parents = self.parents(pass_runs, tap, found.finding.span)
        if not parents:
            return None
        if found.finding.verdict == "match":
            self._cancel(parents, tap)
            return found
        if found.finding.verdict != "bug" or found.value is None or found.finding.nonfinite:
            return None
        if is_rounded_again(pass_runs, found, parents):
            self._cancel(parents, tap)
            return found._replace(finding=replace(found.finding, verdict="match", why=AGAIN), runs=())
        changes = inherited_changes(found, tap, parents)
        if changes:
            return self._undo(pass_runs, self._child(pass_runs, tap, changes, parents, False))
        if is_right_as_it_is(pass_runs, tap, parents):
            able = able_changes(found, tap, parents)
            if able:  # its own weights may have been forgotten: what follows tells
                return self._undo(pass_runs, self._child(pass_runs, tap, able, parents, True))
            return self._refute(pass_runs, tap, parents)
        again = self._scaled_inside(pass_runs, tap, parents)
        if again is None:
            self._cancel(parents, "")
        return again

    def finish(self, pass_runs: PassRuns, prefix: str) -> None:
        """End a layer: what has not cancelled by now never does."""
        for key, kept in list(self.kept.items()):
            if key[0] == pass_runs.number and kept.tap.startswith(prefix):
                self._unproved(key)

    def _child(self, pass_runs: PassRuns, tap: str, changes, parents: list[Kept], doubted: bool) -> Kept:
        roots = frozenset().union(*(one.roots for one in parents))
        return Kept(pass_runs.number, tap, tuple(changes), roots, parents[0].what, pass_runs.stored[tap], doubted)

    def _undo(self, pass_runs: PassRuns, kept: Kept) -> Measured:
        raw, axes = kept.raw, row_of(kept.tap).axes.split()
        store(pass_runs, kept.tap, undone(raw, kept.changes, axes))
        self.kept[kept.number, kept.tap] = kept
        found = measure(pass_runs, kept.tap)
        finding = found.finding
        parents = self.parents(pass_runs, kept.tap, finding.span)
        if kept.doubted or is_rounded_again(pass_runs, found, [kept, *parents]):  # doubted: what follows tells
            finding = replace(finding, verdict="match")
        if finding.verdict == "match":
            finding = replace(finding, why=f"in another basis: {kept.what}")
        self.made[kept.number, kept.tap] = finding
        return found._replace(finding=finding, runs=())

    def _refute(self, pass_runs: PassRuns, tap: str, parents: list[Kept]) -> Measured:
        """The next operation takes the values as they are: no basis, but a mistake where it began."""
        roots = frozenset().union(*(one.roots for one in parents))
        line = [one for key, one in self.kept.items() if key[0] == pass_runs.number and one.roots & roots]
        for one in line:
            store(pass_runs, one.tap, one.raw)
            del self.kept[one.number, one.tap]
        for one in line:
            if one.before is not None:  # its weights may be gone: the head's are another stage's than the norm's
                self.changed[one.number, one.tap] = one.before
                continue
            found = measure(pass_runs, one.tap)
            self.changed[one.number, one.tap] = found.finding
            if found.finding.verdict == "bug":
                self.again.append((pass_runs, one.tap, found))
        return measure(pass_runs, tap)

    def _scaled_inside(self, pass_runs: PassRuns, tap: str, parents: list[Kept]) -> Measured | None:
        """Try whether a norm's gain was made 1 + w / s where (1 + w) / s is right: the weights after it have s."""
        for one in parents:
            axes = row_of(one.tap).axes.split()
            if tap_group(one.tap) not in NORMS or one.changes[0].factor is None or axes != ["B", "T", "D"]:
                continue
            gain = np.asarray(getattr(pass_runs.local.weights, NORMS[tap_group(one.tap)][1]), np.float64)
            read = one.changes[0].factor * (1 + gain) - 1
            with np.errstate(divide="ignore", invalid="ignore"):
                scales = np.where(np.abs(gain) > LEAST, read / gain, 1.0)
            stored, before = pass_runs.stored[one.tap], measure(pass_runs, tap).finding.local_ratio or 0.0
            change = Change(one.changes[0].axis, factor=scales)
            store(pass_runs, one.tap, undone(one.raw, (change,), axes))
            again = measure(pass_runs, tap)
            store(pass_runs, one.tap, stored)
            if (again.finding.local_ratio or 0.0) <= max(LIMIT, before / MUCH):
                if not one.inside:
                    self._blame_gain(one, scales)
                    self.kept[one.number, one.tap] = one._replace(inside=True)
                why = f"in another basis: {one.what}"
                return again._replace(finding=replace(again.finding, verdict="match", why=why), runs=())
        return None

    def _blame_gain(self, one: Kept, scales: np.ndarray) -> None:
        what = "Scales were folded into the gain w before 1 was added: 1 + w / s, where (1 + w) / s cancels."
        assert one.changes[0].factor is not None
        factor, group = one.changes[0].factor / scales, tap_group(one.tap)  # as the weights after it, times s, see it

        def rule(at):
            return RULES[group](at) * factor.astype(at.ops.dtype)

        self._bug(one, "norm_gain_scaled_before_one", what, {group: rule})

    def _bug(self, one: Kept, name: str, what: str, rules: dict[str, Any]) -> None:
        """Call a tap in another basis a bug after all."""
        key = one.number, one.tap
        finding = replace(self.made[key], verdict="bug", why=what)
        hypothesis = Hypothesis(mutant_of(name, what, rules), (Parameter("basis", one.what),), 1)
        evidence = Evidence(hypothesis.mutant, one.tap, one.number, 1.0, 0.0, 0.0, 0.0, None, 0.0, hypothesis)
        self.changed[key] = finding
        self.bugs.append(Diagnosis(finding, [evidence], [0], []))

    def _cancel(self, parents: list[Kept], tap: str) -> None:
        """A tap is right on undone values: the basis has cancelled, and all that led here is right in it."""
        roots = frozenset().union(*(one.roots for one in parents))
        for key, one in list(self.kept.items()):
            if not one.roots & roots or key[0] != parents[0].number or key in self.done:
                continue
            if one.inside:
                continue
            if one.doubted:
                what = (
                    f"Its own weights are not in the basis of its input, as the operations after it expect: {one.what}"
                )
                self._bug(one, "weights_not_in_the_basis", what, own_weights(one))
            else:
                self.done[key] = one, tap

    def _unproved(self, key: tuple[int, str]) -> None:
        kept = self.kept.pop(key)
        if key not in self.done and key not in self.changed:
            why = f"in another basis: {kept.what} No later tap of the dump tells whether it cancels"
            self.changed[key] = replace(self.made[key], verdict="undetermined", why=why)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of the report for each basis: what it is, and where it cancels."""
        out: dict[str, dict[str, Any]] = {}
        for kept, cancels in self.done.values():
            row = out.setdefault(kept.what, {"what": kept.what, "layers": set(), "taps": {}, "cancels_at": {}})
            layer = layer_of(kept.tap)
            row["layers"] |= set() if layer is None else {layer}
            row["taps"][kept.tap] = None
            row["cancels_at"] |= {cancels: None} if cancels else {}
        return [
            row | {"layers": sorted(row["layers"]), "taps": list(row["taps"]), "cancels_at": list(row["cancels_at"])}
            for row in out.values()
        ]
