"""A norm whose gain differs between ranks, read off the values of one that is off."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.context import Rule
from ref.emulate.graph import RULES
from ref.emulate.text_rules import NORMS, norm_eps, norm_input
from ref.hypotheses.hypothesis import Clue, Hypothesis, Parameter, mutant_of
from ref.hypotheses.lists import and_more, in_spans
from ref.hypotheses.norms import without_gain
from ref.hypotheses.rank_slices import wrong_ranks
from ref.measure.rank_words import listed
from ref.measure.tap_finding import RankFinding

SURE = 4.0  # standard errors that a channel's gain must be away
MOST_SPANS = 4


def gains(clue: Clue) -> Iterator[Hypothesis]:
    """Read the gain off the values of a rank that is off."""
    field = NORMS[clue.group][1]
    gain = np.asarray(getattr(clue.there.local.weights, field), np.float64)
    for kind in ("replica", "slice"):
        for one in wrong_ranks(clue, kind)[:1]:
            here = _of_rank(clue, one)
            t, y = (x[here][:, clue.valid].reshape(-1, len(gain)) for x in (clue.truth, clue.value))
            yield from _other_gain(clue, [row.rank for row in wrong_ranks(clue, kind)], field, gain, t, y, here)


def _of_rank(clue: Clue, one: RankFinding) -> tuple[slice, ...]:
    axis = clue.axes.index(one.axis) if one.axis else 0
    return (*[slice(None)] * axis, slice(one.start, one.stop) if one.axis else slice(None))


def _other_gain(clue: Clue, ranks: list[int], field: str, gain, t, y, here) -> Iterator[Hypothesis]:
    normed = without_gain(t, 1 + gain)
    square = np.sum(normed * normed, axis=0)
    if len(y) < 2 or not (square > 0).all():
        return
    read = np.sum(y * normed, axis=0) / square - 1
    spread = np.sqrt(np.sum((normed * (y - normed * (1 + read))) ** 2, axis=0)) / square
    changed = np.abs(read - gain) > np.maximum(SURE * spread, 0.02 * np.abs(1 + gain))
    if not changed.any():
        return
    zero = changed.sum() > 1 and float(np.abs(read[changed]).max()) < 0.02
    if 2 * changed.sum() > len(gain):  # another gain altogether; those channels are near by chance
        changed[:] = True
    other = np.where(changed, 0.0 if zero else read, gain)
    rule = _with_gain(clue.group, other, here)
    places = [int(i) for i in np.flatnonzero(changed)]
    which = f"{len(places)} of {len(gain)} channels"
    rest = (
        "are 0"
        if zero
        else f"differ by up to {np.abs(read - gain).max():.3g}: {and_more(in_spans(places), MOST_SPANS)}"
    )
    what = f"On {listed(ranks)} {field} has another gain than on the others: {which} {rest}."
    parameters = (
        Parameter("rank", ranks),
        Parameter("channels", places, None, None, and_more(in_spans(places), MOST_SPANS)),
    )
    yield Hypothesis(mutant_of("gain_of_rank", what, {clue.group: rule}), parameters, 3)


def _with_gain(group: str, gain: np.ndarray, here: tuple[slice, ...]) -> Rule:
    def rule(at):
        y = RULES[group](at).copy()
        y[here] = at.ops.rms_norm(norm_input(at), gain.astype(at.ops.dtype), norm_eps(at))[here]
        return y

    return rule
