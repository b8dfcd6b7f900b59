"""Mistakes in a part of a tap only: some tokens, ids, images, heads or channels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ref.diagnosis.evidence import Evidence
from ref.emulate.graph import RULES
from ref.hypotheses.hypothesis import Clue, Hypothesis, Parameter, mutant_of
from ref.hypotheses.lists import and_more, cut_off, in_spans
from ref.measure.distance import distance_of
from ref.measure.measure_logits import some_columns
from ref.model.taps import row_of
from ref.mutants.base import TapMutant

TRIED = 12  # mistakes whose parts are looked for: those that the error has most of
FEWEST = 64  # values that a tap must have
MOST_IDS, MOST_SPANS = 6, 5  # that are listed in words

UNITS = {"T": "tokens", "P": "patches", "M": "soft tokens", "B": "images", "N": "heads", "K": "heads"}


class Part(NamedTuple):
    """A part of a tap that is wrong."""

    axis: str  # tokens, ids, images, heads, channels
    which: list[int]
    mask: np.ndarray  # broadcasts to the value
    words: str
    free: int


def few_for_parts(clue: Clue) -> str:
    """Say why no part of a tap can be told from the rest; empty where one can."""
    if len(clue.tokens()) < 2:
        return f"needs at least 2 tokens, got {len(clue.tokens())}"
    return "" if clue.truth.size >= FEWEST else f"needs at least {FEWEST} values, got {clue.truth.size}"


def parts_at(clue: Clue, evidence: list[Evidence]) -> Iterator[Hypothesis]:
    """Look for a mistake that a part of a tap has, and the rest has not.

    Args:
        clue: the tap.
        evidence: of whole mistakes there, whose values are still known.

    Yields:
        Mistakes within a part; zeros too, which are "part_missing".
    """
    error, left = clue.value - clue.truth, []
    for one in [None, *_likely(evidence)]:
        wrong = np.zeros_like(clue.truth) if one is None else one.value
        if wrong is None or wrong.shape != clue.truth.shape:
            continue
        for part in _parts(clue, error, wrong - clue.truth):
            mixed = np.where(part.mask, wrong, clue.truth)
            assert clue.found.floor is not None
            ratio = clue.found.floor.ratio(distance_of(clue.value, mixed, clue.tap, clue.valid))
            if ratio < max(4.0, clue.before / 20):
                left.append((ratio, part, one))
    for _, part, one in sorted(left, key=lambda row: (row[0] > 4, row[1].free, row[0]))[:4]:
        yield _zeros(clue, part) if one is None else _of(clue, part, one)


def _likely(evidence: list[Evidence]) -> list[Evidence]:
    there = [one for one in evidence if one.value is not None and one.coefficient > one.stderr]
    return sorted(there, key=lambda one: -one.coefficient / max(one.stderr, 1e-12))[:TRIED]


def _parts(clue: Clue, error: np.ndarray, d: np.ndarray) -> Iterator[Part]:
    """Split a tap into those units that have a mistake and those that have not, along each axis."""
    tokens = row_of(clue.tap).token_axis
    for axis, letter in enumerate(clue.axes):
        size = clue.value.shape[axis]
        if size < 2 or letter in "SYXC" or (letter == "B" and not clue.tap.startswith("vision.")):
            continue
        # half of the values choose, so that the others can contradict
        other = clue.value.ndim - 1 if axis == tokens else tokens
        if clue.value.shape[other] < 2:
            continue
        half = tuple(slice(None, None, 2) if i == other else slice(None) for i in range(clue.value.ndim))
        away, along = error[half], d[half]
        rest = tuple(i for i in range(clue.value.ndim) if i != axis)
        has = np.sum((away - along) ** 2, axis=rest) < np.sum(away**2, axis=rest)
        if axis == tokens and letter in "TP" and clue.value.shape[0] == 1:
            has &= clue.valid
        if not has.any() or has.all():
            continue
        yield from _described(clue, axis, letter, has)


def _described(clue: Clue, axis: int, letter: str, has: np.ndarray) -> Iterator[Part]:
    mask = has.reshape([-1 if i == axis else 1 for i in range(clue.value.ndim)])
    which = [int(i) for i in np.flatnonzero(has)]
    if letter == "V" and clue.value.shape[axis] != clue.passes[0].one_pass.text.embedding.shape[0]:
        which = _rows_of_vocabulary(clue, which)
    name = UNITS.get(letter, "channels")
    runs = 1 + int(np.sum(np.diff(which) > 1))
    words = f"{name} {and_more(in_spans(which), MOST_SPANS)}"
    if letter == "T" and clue.tap.startswith(("text.", "model.")):
        ids = clue.there.one_pass.ids[0]
        wrong, right = set(ids[has].tolist()), set(ids[~has & clue.valid].tolist())
        if not wrong & right:
            chosen = sorted(wrong)
            listed = cut_off([str(one) for one in chosen], MOST_IDS)
            by_id = f"{len(which)} of {int(clue.valid.sum())} tokens, those with ids {listed}"
            yield Part("ids", chosen, mask, by_id, 2 if clue.group == "text.embed" else 1 + len(chosen))
    yield Part(name, which, mask, words, 1 + 2 * runs)


def _rows_of_vocabulary(clue: Clue, which: list[int]) -> list[int]:
    """Return rows of the vocabulary for columns that stand for all: those between two of them, as far as they are 0."""
    whole = next(one for one in clue.passes if one.number == clue.there.number).stored["text.logits"].read()
    zero = ~whole.reshape(-1, whole.shape[-1]).any(axis=0)
    columns = some_columns(whole.shape[-1])[which]
    return [int(i) for i in np.flatnonzero(zero)] if zero[columns].all() else [int(i) for i in columns]


def _masked(clue: Clue, part: Part, rule) -> dict:
    """Return the rule that holds in a part; ids hold in every pass, other parts in passes of this shape."""
    own = RULES[clue.group]

    def mixed(at):
        right = own(at)
        mask = part.mask
        if part.axis == "ids":
            mask = np.isin(at.one_pass.ids, part.which).reshape(1, -1, *[1] * (right.ndim - 2))
        fits = all(m in (1, n) for m, n in zip(mask.shape, right.shape, strict=True))
        return np.where(mask, rule(at), right).astype(right.dtype) if fits else right

    return {clue.group: mixed}


def _zeros(clue: Clue, part: Part) -> Hypothesis:
    rules = _masked(clue, part, lambda at: at.ops.dtype(0))
    mutant = mutant_of("part_missing", f"The values of {part.words} are 0.", rules)
    axis, start, stop = part.axis, part.which[0], part.which[-1] + 1
    parameters = (Parameter("axis", axis), Parameter("start", start), Parameter("stop", stop))
    return Hypothesis(mutant, parameters, part.free, None, part.words)


def _of(clue: Clue, part: Part, one: Evidence) -> Hypothesis:
    rule = one.mutant.rules.get(clue.group)
    inner: TapMutant = one.mutant
    rules = _masked(clue, part, rule) if rule else dict(inner.rules)
    more = one.hypothesis.parameters if one.hypothesis else ()
    which = Parameter("which", part.which, None, None, part.words)
    parameters = (*more, Parameter("axis", part.axis), which)
    return Hypothesis(inner._replace(rules=rules), parameters, part.free + one.free, None, part.words)
