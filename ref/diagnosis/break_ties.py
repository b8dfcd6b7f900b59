"""Which of several tied mistakes fits all other taps best: those that match, and those that are bad as well."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ref.diagnosis.evidence import mutated
from ref.diagnosis.find_arithmetic import involves
from ref.emulate.context import as_seen
from ref.emulate.one_pass import Unknown
from ref.emulate.stages import Stage, prepare_stage, stages_of, taps_of
from ref.measure.distance import relative, sums_of
from ref.measure.floor import LIMIT
from ref.measure.measure_tap import fitted
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import row_of
from ref.mutants import tap_mutants

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


def contradictions(
    all_runs: list[PassRuns], loaded: "Loaded", held: str, names: list[str], findings: list[TapFinding]
) -> dict:
    """Count the taps that match although a mutant would have changed them, or are bad although it would not have.

    Args:
        all_runs: the passes.
        loaded: the weights.
        held: the dtype that the producer held them in.
        names: of mutants that explain the first bad tap equally well.
        findings: at every tap.

    Returns:
        name -> number of contradictions.
    """
    judged = {one.place: one for one in findings if one.verdict != "undetermined" and _is_one_step(one)}
    mutants = {name: tap_mutants()[name] for name in names}
    groups = {group for mutant in mutants.values() for group in mutant.rules}
    count = dict.fromkeys(names, 0)
    for pass_runs in all_runs:
        for stage in stages_of(pass_runs.one_pass):
            taps = [tap for tap in taps_of(stage, True, True) if (pass_runs.number, tap) in judged]
            here = [tap for tap in taps if involves(judged[pass_runs.number, tap], groups) and tap != "text.logits"]
            if not here:
                continue
            _enter(pass_runs, stage, prepare_stage(loaded, stage, held, np.float64))
            for tap in here:
                try:
                    truth, _ = pass_runs.local.recompute(tap)
                except Unknown:  # the keys of an earlier pass of which the dump has too little
                    continue
                for name, mutant in mutants.items():
                    finding = judged[pass_runs.number, tap]
                    shows = involves(finding, mutant.rules) and _shows(pass_runs, mutant, finding, truth)
                    count[name] += shows != (finding.verdict == "bug")
            for one in all_runs:  # those of earlier passes have made their keys
                one.forget()
    return count


def _is_one_step(finding: TapFinding) -> bool:
    """Tell whether a tap was measured locally, and one operation made it: fused attention is one, with its look-ups."""
    return finding.local is not None and all(
        one.endswith(("attn.scores", "attn.probs", "cache.k", "cache.v")) for one in finding.span
    )


def _enter(pass_runs: PassRuns | None, stage: Stage, weights: Any) -> None:
    """Begin a stage in a pass and in those that it continues."""
    while pass_runs is not None:
        pass_runs.local.enter(stage, weights)
        pass_runs = pass_runs.before


def _shows(pass_runs: PassRuns, mutant, finding: TapFinding, truth) -> bool:
    tap = finding.tap
    wrong = mutated(pass_runs, pass_runs.local, mutant, tap)
    if wrong is None:
        return False
    if row_of(tap).is_visibility:
        total = pass_runs.one_pass.total
        seen, mutant_seen = (as_seen(x, total, 0, total)[:, pass_runs.one_pass.valid] for x in (truth, wrong))
        return bool((seen != mutant_seen).any())
    value = pass_runs.stored[tap].load().astype(np.float64)
    value, truth, wrong, valid = fitted(pass_runs.one_pass, tap, value, truth, wrong)
    away = relative(sums_of(wrong, truth, tap, valid).tokens).max(initial=0)
    assert finding.distances is not None
    return bool(away > 2 * LIMIT * max(finding.distances.local_floor.worst_token, 1e-12))
