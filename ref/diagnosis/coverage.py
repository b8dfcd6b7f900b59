"""What a dump does not exercise, so that a green result is not read as more than it is."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from ref.config import BOS
from ref.diagnosis.evidence import candidates, compare_with, prepared
from ref.measure.floor import LIMIT
from ref.measure.measure_tap import Measured
from ref.measure.parallel import side_by_side
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import layer_of, row_of, tap_group
from ref.mutants import tap_mutants
from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs

SURE = 10.0  # standard errors a mutant's projection must have to show below the floor


Kind = tuple[str, bool]  # a tap's group and pass, and whether its layer is global


class Covered(NamedTuple):
    """Mutants that were run at a tap which matches, by name."""

    tried: tuple[str, ...]
    shown: tuple[str, ...]  # those that would have been seen


def kind_of(pass_runs: PassRuns, tap: str) -> Kind:
    """Return what has one first place: inputs that show a mistake at one layer show it at the next of its kind."""
    layer = layer_of(tap)
    return f"{tap_group(tap)}{pass_runs.number}", layer is not None and pass_runs.one_pass.config.is_global(layer)


def is_first(pass_runs: PassRuns, tap: str) -> bool:
    """Tell whether a tap is the first of its kind in this model; of what is visible each is."""
    layer, config = layer_of(tap), pass_runs.one_pass.config
    if layer is None or row_of(tap).is_visibility:
        return True
    return all(config.is_global(one) != config.is_global(layer) for one in range(layer))


def can_cover(found: Measured) -> bool:
    """Tell whether a tap matches so that mutants can be run beside it."""
    return found.finding.verdict == "match" and found.value is not None and not found.finding.why


def cover(pass_runs: PassRuns, tap: str, found: Measured, shown: Collection[str] = ()) -> Covered:
    """Run every mutant of a tap that some inputs cannot show.

    Args:
        pass_runs: the pass, while its runs hold the tap's inputs.
        tap: its name.
        found: what was measured there.
        shown: names of those that have shown already.
    """
    candidate = candidates(tap, found.finding.span)
    several = [one for one in candidate if one.name not in shown and not one.needs.is_usual]
    if not several:
        return Covered((), ())
    there = prepared(pass_runs, tap)

    def shows(mutant: TapMutant) -> bool:
        one = compare_with(there, mutant, tap, found)
        return bool(one and (one.power > LIMIT or 0 < SURE * one.stderr < 1))

    seen = zip(several, side_by_side(shows, several), strict=True)
    return Covered(tuple(one.name for one in several), tuple(mutant.name for mutant, shown in seen if shown))


class Coverage:
    """Collects which mutants would have shown, over the taps that match."""

    def __init__(self) -> None:
        self.shown: set[str] = set()
        self.tried: set[str] = set()
        self.kinds: set[Kind] = set()

    def take(self, kind: Kind, covered: Covered) -> None:
        """Take note of what was found at one tap."""
        self.kinds.add(kind)
        self.tried |= set(covered.tried)
        self.shown |= set(covered.shown)

    def lines(self, all_runs: list[PassRuns], findings: list[TapFinding]) -> list[str]:
        """Say in sentences what was not exercised.

        Args:
            all_runs: the passes.
            findings: at every tap.
        """
        told = _structure(all_runs, {one.group for one in findings})
        missing = {kind for kind, _ in told}
        hidden: dict[str, list[str]] = {}
        for name in sorted(self.tried - self.shown):
            needs = tap_mutants()[name].needs
            if not _is_told(needs, missing):
                hidden.setdefault(needs.words, []).append(name)
        lines = [line for _, line in told] + _beginnings(all_runs)
        return lines + [f"{', '.join(names)} would not show: needs {needs}" for needs, names in hidden.items()]


def _is_told(needs: Needs, missing: set[str]) -> bool:
    """Tell whether a line on what is missing says it already, or whether no input of this model shows the mistake."""
    lacks = {
        "window": bool(needs.windows) or needs.long_image,
        "image": needs.has_image,
        "cached": needs.cached,
        "left pads": needs.left_pads,
        "packed": needs.packed and not needs.left_pads,
        "kv heads": needs.kv_heads > 1,
    }
    return bool(needs.sizes) or needs.odd_depth or any(lacks[kind] for kind in missing if kind)


def _structure(all_runs: list[PassRuns], groups: set[str]) -> list[tuple[str, str]]:
    """Say what kinds of input are missing: (kind, a key of `_is_told` or empty; sentence)."""
    one_pass = all_runs[0].one_pass
    c, longest = one_pass.config, max(pass_runs.one_pass.total for pass_runs in all_runs)
    lines = []
    if longest <= c.window:
        line = f"{longest} tokens are no more than the window of {c.window}: the window was not exercised"
        lines.append(("window", line))
    if not any(pass_runs.one_pass.places.any() for pass_runs in all_runs):
        lines.append(("image", "no image: tower, projector, merge and image blocks were not exercised"))
    if not any(pass_runs.one_pass.cached for pass_runs in all_runs):
        lines.append(("cached", "no cached pass: cache and decoding were not exercised"))
    elif longest <= c.window:
        lines.append(("", "the ring of local layers never wrapped"))
    if not any((pass_runs.one_pass.positions < 0).any() for pass_runs in all_runs):
        lines.append(("left pads", "no left pads"))
    if not any(pass_runs.one_pass.is_packed for pass_runs in all_runs):
        lines.append(("packed", "no packed prompts"))
    if c.kv_heads == 1:
        lines.append(("kv heads", "one key head: the order of groups cannot be wrong here"))
    if missing := sorted(_expected(all_runs) - groups):
        lines.append(("", f"not in the dump: {', '.join(missing)}"))
    return lines


def _beginnings(all_runs: list[PassRuns]) -> list[str]:
    """Say which prompts begin without BOS, or with two: of packed rows each."""
    lines = []
    for pass_runs in all_runs:
        one_pass = pass_runs.one_pass
        ids = one_pass.ids[0]
        starts = np.flatnonzero(one_pass.first[0] == one_pass.cached + np.arange(len(ids)))
        soft = one_pass.places[0]
        for number, start in enumerate(starts.tolist()):
            which = (
                f"prompt {number} of pass {pass_runs.number}"
                if len(starts) > 1
                else f"the prompt of pass {pass_runs.number}"
            )
            begins = [bool(i == BOS and not image) for i, image in zip(ids[start:][:2], soft[start:][:2], strict=True)]
            if not begins[0]:
                lines.append(f"{which} does not begin with BOS (id {BOS}), as all that Gemma 3 was trained on does")
            elif begins == [True, True]:
                lines.append(f"{which} begins with two BOS (id {BOS}): a chat template and a tokenizer each add one")
    return lines


def _expected(all_runs: list[PassRuns]) -> set[str]:
    from ref.emulate.stages import stages_of, taps_of

    names: set[str] = set()
    for pass_runs in all_runs:
        images = bool(pass_runs.one_pass.places.any())
        for stage in stages_of(pass_runs.one_pass):
            names |= {tap_group(tap) for tap in taps_of(stage, pass_runs.one_pass.cached > 0, images)}
    return names
