"""A tap that a dump keeps in another basis: how it is brought out of it, and what its weights cost."""

from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from ref.diagnosis.evidence import beside
from ref.emulate.arithmetic import TRUTH
from ref.emulate.graph import RULES
from ref.emulate.operands import ROUND
from ref.emulate.text_rules import NORMS, norm_eps, norm_input
from ref.hypotheses.change import Change
from ref.hypotheses.products import PRODUCTS, Made, own_product
from ref.measure.distance import Distance, distance_of
from ref.measure.floor import LIMIT, Floor
from ref.measure.measure_logits import measure
from ref.measure.measure_tap import Measured, fitted
from ref.measure.pass_runs import PassRuns
from ref.measure.tap_finding import TapFinding
from ref.model.taps import inputs_of, prefix_of, row_of, tap_group

SPREAD = 0.3  # of the logarithms of made-up factors


class Kept(NamedTuple):
    """A tap that a dump keeps in another basis."""

    number: int  # of the pass
    tap: str
    changes: tuple[Change, ...]
    roots: frozenset[str]  # the taps where it begins
    what: str
    raw: Any  # the dump's own tensor
    doubted: bool = False  # it is right as it is, too: its own weights may not be in the basis
    inside: bool = False  # a norm whose gain w was scaled instead of 1 + w
    before: TapFinding | None = None  # where it begins: what was found before it was undone


def usual_inputs(tap: str) -> set[str]:
    """Return the inputs that the registry names: those of a history that is remembered are not seen again."""
    caches = {"attn.scores": "cache.k", "attn.mix": "cache.v"}
    return inputs_of(tap) | {prefix_of(tap) + cache for name, cache in caches.items() if tap.endswith(name)}


def is_rounded_again(pass_runs: PassRuns, found: Measured, folded: list[Kept]) -> bool:
    """Tell whether a tap is no further off than narrow weights cost that factors were folded into.

    They are rounded again: so is this product's weight here, after other factors, and that is noise, too.
    """
    finding, value, truth, floor = found.finding, found.value, found.truth, found.floor
    by_factors = any(change.factor is not None for one in folded for change in one.changes)
    if finding.dtype not in ROUND or finding.dtype == "float32" or not by_factors or finding.verdict != "bug":
        return False
    made = PRODUCTS.get(finding.group)
    if made is None or value is None or truth is None or floor is None:
        return False
    again = beside(pass_runs, pass_runs.local, TRUTH, {finding.group: partial(_with_rounded_weights, made=made)})
    noisy, valid = again.recompute(finding.tap)[0], np.ones(1, bool)
    _, truth, noisy, valid = fitted(pass_runs.one_pass, finding.tap, value, truth, noisy)
    wider = Floor()
    distances = zip(floor.distance, distance_of(noisy, truth, finding.tap, valid), strict=True)
    wider.distance = Distance(*(float(np.hypot(*pair)) for pair in distances))
    return wider.ratio(distance_of(value, truth, finding.tap, valid)) <= LIMIT


def _with_rounded_weights(at, made: Made) -> np.ndarray:
    """Make a product with weights that were rounded after factors were folded into them."""
    weight = np.asarray(getattr(at.weights, made.field), np.float64)
    rng = np.random.default_rng(weight.shape)
    rows, columns = (np.exp(SPREAD * rng.standard_normal(n)) for n in weight.shape)
    by = rows[:, None] * columns[None]
    rounded = ROUND[at.one_pass.held if at.one_pass.held in ROUND else "bfloat16"]
    weight = rounded((weight * by).astype(np.float32)).astype(np.float64) / by
    return own_product(at, at[made.source], weight)


def own_weights(kept: Kept) -> dict[str, Any]:
    """Return the rule of weights that are not in the basis: in it, the operation is what the dump has undone."""
    group = tap_group(kept.tap)

    def rule(at):
        # values undone, the operation as it is, and undone again: what the weights lack of the basis
        gain = NORMS.get(group)
        if gain is None or kept.changes[0].order is None:
            return RULES[group](at)
        weight = at.vector(gain[1])
        return at.ops.rms_norm(norm_input(at), kept.changes[0].undo(weight, [kept.changes[0].axis]), norm_eps(at))

    return {group: rule}


def undone(raw: Any, changes: tuple[Change, ...], axes: list[str]) -> Any:
    """Return a dump's tensor that is brought out of a basis when it is read."""

    def read():
        value = raw.load()
        for change in reversed(changes):
            value = change.undo(value, axes)
        return np.ascontiguousarray(value)

    return raw._replace(read=read)


def store(pass_runs: PassRuns, tap: str, stored: Any) -> None:
    """Put another tensor in the place of a dump's; what the runs made of the old one is dropped."""
    pass_runs.stored[tap] = stored
    pass_runs.loaded.pop(tap, None)
    for run in pass_runs.all_runs():
        if run.is_given(tap):
            run.drop(tap)


def inherited_changes(found: Measured, tap: str, parents: list[Kept]) -> tuple[Change, ...]:
    """Return the changes of its inputs that a tap has as well."""
    value, truth, floor = found.value, found.truth, found.floor
    assert value is not None
    assert truth is not None
    assert floor is not None
    several = able_changes(found, tap, parents)
    for count in range(1, len(several) + 1):
        for changes in permutations(several, count):
            moved = value.astype(np.float64)
            for change in reversed(changes):
                moved = change.undo(moved, row_of(tap).axes.split())
            if _is_near(moved, truth, floor, tap):
                return changes
    return ()


def able_changes(found: Measured, tap: str, parents: list[Kept]) -> tuple[Change, ...]:
    """List the changes that a tap's axes can have."""
    axes = row_of(tap).axes.split()
    assert found.value is not None
    if row_of(tap).op == "add":  # what is added to the stream is in the stream's basis
        return ()
    out: list[Change] = []
    for parent in parents:
        for change in parent.changes:
            for one in (change, change.for_queries(found.value.shape, axes)):
                if one is None or not one.fits(found.value.shape, axes):
                    continue
                if not any(one.same(other) for other in out):
                    out.append(one)
    return tuple(out[:4])


def _is_near(value: np.ndarray, truth: np.ndarray, floor: Floor, tap: str) -> bool:
    """Tell whether a value is the truth to noise."""
    return value.shape == truth.shape and floor.ratio(distance_of(value, truth, tap)) <= LIMIT


def is_right_as_it_is(pass_runs: PassRuns, tap: str, parents: list[Kept]) -> bool:
    """Tell whether a tap matches on the dump's own values, none of them undone."""
    before = {one.tap: pass_runs.stored[one.tap] for one in parents}
    for one in parents:
        store(pass_runs, one.tap, one.raw)
    try:
        return measure(pass_runs, tap).finding.verdict == "match"
    finally:
        for name, stored in before.items():
            store(pass_runs, name, stored)
