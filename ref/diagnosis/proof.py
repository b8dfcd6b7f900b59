"""The proof: the model is run with the named mistakes planted in the truth. Do they explain the logits?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ref.diagnosis.causes import Cause
from ref.diagnosis.planting import Planted, Planting, planted_in
from ref.measure.floor import DRIFT
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import row_of

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

ON_SOME_RANKS = "ranks go on with different values, and the model was run on one"
MOST_MOVES = 6  # causes of which is told what each alone moves


class Proof(NamedTuple):
    """What is left when the named mistakes are planted."""

    verdict: str  # explained, remains, unknown
    says: str
    first: TapFinding | None  # where something else remains
    tap: str  # that it was judged at
    left: float | None  # floors of what is inherited


def on_some_ranks(cause: Cause) -> bool:
    """Tell whether ranks go on with different values where a cause is."""
    return any(one.apart is not None for diagnosis in cause.diagnoses for one in diagnosis.finding.ranks)


def last_tap(findings: list[TapFinding]) -> TapFinding | None:
    """Return the last float tap of a dump, the logits where there are any; what is no more than a sketch is none."""
    whole = [one for one in findings if one.local is not None and one.inherited is not None]
    floats = [one for one in whole if not row_of(one.tap).integers]
    logits = [one for one in floats if one.tap == "text.logits"]
    return (logits or floats or [None])[-1]


def prove(
    causes: list[Cause], findings: list[TapFinding], all_runs: list[PassRuns], loaded: "Loaded", held: str
) -> tuple[Proof | None, dict[int, float]]:
    """Run the model with the named mistakes, and each of them alone.

    Args:
        causes: from `causes_of`.
        findings: at every tap.
        all_runs: the passes.
        loaded: the weights.
        held: the dtype that the producer held them in.

    Returns:
        (the proof, share of the logits' norm that each cause moves, by its number); None where nothing is named.
    """
    at, named = last_tap(findings), [i for i, one in enumerate(causes) if one.name]
    if at is not None and any(on_some_ranks(causes[i]) for i in named):
        return Proof("unknown", ON_SOME_RANKS, None, at.tap, None), {}
    unexplained = [one for one in causes if not one.name]
    if at is None or not named:
        return None, {}
    planting = Planting(all_runs, loaded, held, at)
    alone = named[:MOST_MOVES] if len(named) > 1 else []
    sets: list[Planted] = [planted_in([causes[i] for i in named]), {}, *(planted_in([causes[i]]) for i in alone)]
    made = planting.run(sets)
    value = planting.dumped()
    left, before = (planting.away(value, one) for one in made[:2])
    truth = made[1]
    moves = (
        {}
        if truth is None
        else {i: planting.away(one, truth) for i, one in zip(alone, made[2:], strict=True) if one is not None}
    )
    if len(named) == 1 and truth is not None and made[0] is not None:
        moves = {named[0]: planting.away(made[0], truth)}
    floor = at.floor or 0.0
    if floor and left > DRIFT * floor:
        floor = max(floor, _noise(planting, sets[0], made[0]))
    ratio = left / floor if floor else float("inf") if left else 0.0
    first = unexplained[0].diagnoses[0].finding if unexplained else None
    return _said(at, ratio, before / floor if floor else None, first), moves


def _noise(planting: Planting, planted: Planted, made: np.ndarray | None) -> float:
    """Return how far valid runs of the same mistakes are from them: some mistakes make noise larger."""
    if made is None:
        return 0.0
    distances = [
        planting.away(one, made)
        for like in planting.there.every[:2]
        for one in planting.run([planted], like.arithmetic)
        if one is not None
    ]
    return max((one for one in distances if np.isfinite(one)), default=0.0)


def _said(at: TapFinding, ratio: float, before: float | None, first: TapFinding | None) -> Proof:
    what = "the logits" if at.tap == "text.logits" else f"{at.tap}, the last tap of the dump"
    if not np.isfinite(ratio):
        return Proof("unknown", f"the named mistakes could not be run to {at.tap}", first, at.tap, None)
    was = "" if before is None or not np.isfinite(before) else f", {before:.3g} without them"
    if ratio <= DRIFT and first is None:
        return Proof("explained", f"these explain {what}: {ratio:.2f} floors are left{was}", None, at.tap, ratio)
    where = f", first at {first.tap} (pass {first.pass_number})" if first else ""
    return Proof(
        "remains", f"something else remains{where}: {ratio:.3g} floors of {what} are left{was}", first, at.tap, ratio
    )


def as_json(proof: Proof | None) -> Mapping[str, Any] | None:
    """Return a proof as a part of the report."""
    if proof is None:
        return None
    first = proof.first
    place = first and {"tap": first.tap, "layer": first.layer, "pass": first.pass_number}
    return {"verdict": proof.verdict, "says": proof.says, "first": place, "tap": proof.tap, "left": proof.left}
