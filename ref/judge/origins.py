"""What a small dump tells of where an error begins: at the first tap that is off and made of nothing that is."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ref.dump.sketched import SketchedTap
from ref.emulate.stages import stages_of, taps_of
from ref.hypotheses.lists import and_more
from ref.measure.floor import FOLLOWS, LIMIT
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import layer_of, prefix_of, row_of

Place = tuple[int, str]  # pass, tap


def sources_of(pass_runs: PassRuns, tap: str) -> Iterator[Place]:
    """List what a tap is made from, across layers and, through the cache, across passes.

    Args:
        pass_runs: the pass.
        tap: its name.

    Yields:
        (pass, tap), whether or not the dump has it.
    """
    number, one_pass, layer = pass_runs.number, pass_runs.one_pass, layer_of(tap)
    images, tower = bool(one_pass.places.any()), one_pass.vision.config.layers if one_pass.vision else 0
    ends = {
        "text.layer.0.in": "model.merged" if images else "text.embed",
        "text.final_norm": f"text.layer.{one_pass.layers - 1}.out",
        "vision.layer.0.in": "vision.embed",
        "vision.post_norm": f"vision.layer.{tower - 1}.out",
    }
    if tap in ends:
        yield number, ends[tap]
    elif layer and tap.endswith(f".{layer}.in"):
        yield number, f"{tap.split('.')[0]}.layer.{layer - 1}.out"
    else:
        prefix = "" if layer is None else prefix_of(tap)
        yield from ((number, prefix + one) for one in row_of(tap).inputs)
    looked_up = {"attn.scores": "attn.k_rope", "attn.mix": "attn.v", "cache.k": "attn.k_rope", "cache.v": "attn.v"}
    before, name = pass_runs.before, tap.removeprefix(f"text.layer.{layer}.")
    while before is not None and name in looked_up:
        yield before.number, f"text.layer.{layer}.{looked_up[name]}"
        before = before.before


class Origins:
    """Follows what is off back to where it begins.

    Args:
        findings: at every tap.
        all_runs: the passes.
    """

    def __init__(self, findings: list[TapFinding], all_runs: list[PassRuns]):
        self.found = {one.place: one for one in findings}
        self.passes = {one.number: one for one in all_runs}
        self._above: dict[Place, Place] = {}
        for pass_runs in all_runs:
            images = bool(pass_runs.one_pass.places.any())
            for stage in stages_of(pass_runs.one_pass):
                for tap in taps_of(stage, True, images):
                    self._follow(pass_runs, tap)

    def _follow(self, pass_runs: PassRuns, tap: str) -> None:
        """Take note of what is off above a tap; what it is made from comes before it."""
        for source in sources_of(pass_runs, tap):
            one = self.found.get(source)
            up = self._above.get(source) or (source if one and one.verdict == "bug" else None)
            if up is not None:
                self._above[pass_runs.number, tap] = up
                return

    def is_sketch(self, place: Place) -> bool:
        """Tell whether a tap was measured from the prompt on alone, in a small dump."""
        finding = self.found[place]
        shown = self.passes[place[0]].partial
        return finding.local is None and any(isinstance(one, SketchedTap) for one in shown.values())

    def above(self, place: Place) -> Place | None:
        """Return a tap that is off and that this one is made from, on whatever way; None: all of those match."""
        return self._above.get(place)

    def around(self, place: Place) -> tuple[list[Place], list[Place]]:
        """Return the nearest taps that a tap is made from and that were measured; and those between, which were not."""
        near, between, todo, known = [], [], [place], {place}
        while todo:
            for source in sources_of(self.passes[place[0]], todo.pop(0)[1]):
                if source[0] != place[0] or source in known:  # what earlier passes left is in the cache
                    continue
                known.add(source)
                (near if source in self.found else between).append(source)
                todo += [] if source in self.found else [source]
        return near, between


def placed(findings: list[TapFinding], all_runs: list[PassRuns]) -> list[TapFinding]:
    """Leave a bug of a small dump where it begins; call what follows from it undetermined.

    Args:
        findings: at every tap, in the order of execution.
        all_runs: the passes.
    """
    origins, out = Origins(findings, all_runs), []
    for one in findings:
        if one.verdict != "bug" or not origins.is_sketch(one.place):
            out.append(one)
            continue
        above = origins.above(one.place)
        if above is not None:
            where = f"{above[1]} (pass {above[0]})"
            out.append(replace(one, verdict="undetermined", why=f"{FOLLOWS} {where}, which is wrong before it"))
        else:
            out.append(replace(one, why="; ".join(filter(None, [one.why, _said(origins, one)]))))
    return out


def _said(origins: Origins, one: TapFinding) -> str:
    """Say between what the error begins."""
    near, between = origins.around(one.place)
    ops = list(dict.fromkeys(row_of(tap).op for _, tap in [*reversed(between), (0, one.tap)]))
    known = one.inherited_ratio is not None and np.isfinite(one.inherited_ratio)
    ratio = [f"{one.inherited_ratio:.3g} floors from the prompt on"] if known else []
    if near:
        ratios = {tap: origins.found[number, tap].inherited_ratio or 0.0 for number, tap in near}
        names, verb = and_more(list(ratios), 3), "matches" if len(near) == 1 else "match"
        doubt = ", or before: these are near the limit" if max(ratios.values()) > LIMIT else ""
        ratio.append(f"where {names} {verb}: what lies between is {and_more(ops, 4)}{doubt}")
    elif between:
        ratio.append(f"nothing before it was compared: what lies there is {and_more(ops, 4)}")
    return ", ".join(ratio)
