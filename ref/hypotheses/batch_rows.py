"""Rows of a batch that have each other's values: each row is a pass of its own."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.arithmetic import TRUTH
from ref.emulate.graph import RULES, Run
from ref.emulate.one_pass import Unknown
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.measure.pass_runs import PassRuns


def _rows(clue: Clue) -> Iterator[Hypothesis]:
    """Look for values of another row of the batch: each row is a pass of its own."""
    rows = [one for one in clue.passes if one.before is None and clue.tap in one.stored]
    if len(rows) < 2 or clue.there.before is not None:
        return
    parts = [_part_of(one, clue) for one in rows]
    made = [None if truth is None else truth for _, truth in parts]
    held = []
    for value, _ in parts:
        fits = (t is not None and t.shape == value.shape for t in made)
        left = [float(np.linalg.norm(value - t)) if fit else np.inf for t, fit in zip(made, fits, strict=True)]
        best = left.index(min(left))
        held.append(best if left[best] < 0.1 * np.linalg.norm(value) else -1)
    here = next(i for i, one in enumerate(rows) if one.number == clue.there.number)
    if held[here] in (-1, here):
        return
    foreign, places, group = made[held[here]], clue.there.one_pass.places[0], clue.group

    def rule(at):
        value = np.array(RULES[group](at))
        if at.tap == "model.merged" and at.one_pass.places[0].shape == places.shape:
            value[0, places] = foreign
        return value if at.tap == "model.merged" or value.shape != foreign.shape else foreign.astype(value.dtype)

    words = ", ".join(f"row {i} has those of row {j}" for i, j in enumerate(held) if i != j)
    values = "Images" if clue.tap.startswith(("vision.", "model.")) else "Values"
    what = f"{values} of rows of the batch are exchanged: {words}."
    yield Hypothesis(
        mutant_of("rows_permuted", what, {clue.group: rule}), (Parameter("order", held, None, None, words),), 2
    )


def _part_of(one: PassRuns, clue: Clue) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a row's value and its truth on the dump's own inputs; of merged rows the images only."""
    run = Run(one.one_pass, TRUTH, one.local.given)
    run.prefix, run.weights = clue.there.local.prefix, clue.there.local.weights
    value = one.load(clue.tap).astype(np.float64)
    try:
        truth, _ = run.recompute(clue.tap)
    except Unknown:
        truth = None
    if clue.tap == "model.merged":
        places = one.one_pass.places[0]
        return value[0, places], None if truth is None else truth[0, places]
    return value, truth


def _one_row(clue: Clue) -> str:
    rows = sum(one.before is None and clue.tap in one.stored for one in clue.passes)
    return "" if rows > 1 else f"needs at least 2 rows of a batch, got {rows}"


TAPS = frozenset({"vision.soft_tokens", "model.merged", "text.embed"})
BATCH_ROWS = (Family("rows of the batch", TAPS, _rows, _one_row),)
