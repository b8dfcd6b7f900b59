"""Mistakes of single ranks: a sum that lacks one, another rank's slice, a norm whose gain differs between ranks."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.context import join_heads
from ref.emulate.text_rules import NORMS
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.lists import and_more
from ref.hypotheses.products import PRODUCTS, bias_of, layers_of, own_product, screen_of, values_of
from ref.hypotheses.rank_gains import gains
from ref.hypotheses.rank_slices import slices, wrong_ranks
from ref.measure.measure_ranks import inputs_of_rank
from ref.measure.rank_views import own_of
from ref.measure.rank_words import listed

CLEAR = 0.1  # how near an integer it must be how often a rank is in a sum
MOST_SPANS = 4
SUMS = frozenset(group for group in PRODUCTS if group.endswith((".attn.out", ".ffn.out")))


def _count(clue: Clue) -> int:
    """Return how many ranks hold a tap; 0 of a dump without ranks."""
    stored = clue.there.stored.get(clue.tap)
    return 1 + max((one.rank for one in stored.parts), default=-1) if stored else 0


def _times(clue: Clue) -> Iterator[Hypothesis]:
    """Find how often each rank's part is in a sum, and its bias: y = sum over ranks of a[r] W_r x_r + c b."""
    made, count = PRODUCTS[clue.group], _count(clue)
    if count < 2:
        return
    x, screen, layer = clue.input(made.source), screen_of(clue), layers_of(clue)[clue.layer]
    cuts = [
        inputs_of_rank(clue.there, clue.prefix + made.source.split(".*.")[-1], r, x.shape[2], count)
        for r in range(count)
    ]
    weight, bias = values_of(clue, getattr(layer, made.field), screen.rows), bias_of(clue, layer, made.field)
    each = x.shape[3] if x.ndim == 4 else 1
    rows = x.reshape(len(clue.valid), -1)[clue.valid]
    y = clue.value.reshape(len(clue.valid), -1)[clue.valid][:, screen.rows]
    inputs = [slice(cut.start * each, cut.stop * each) for cut in cuts]
    columns = [(rows[:, here] @ weight[:, here].T).ravel() for here in inputs]
    columns += [np.broadcast_to(bias[screen.rows], y.shape).ravel()] if bias.any() else []
    if y.size < 3 * len(columns):
        return
    a, *_ = np.linalg.lstsq(np.stack(columns, axis=1), y.ravel(), rcond=None)
    whole = np.rint(a)
    if np.abs(a - whole).max() > CLEAR or (whole == 1).all():
        return
    times = [int(one) for one in whole[:count]]
    yield _summed(clue, times, int(whole[count]) if bias.any() else 1, inputs, bool(bias.any()))


def _summed(clue: Clue, times: list[int], biases: int, inputs: list[slice], bias: bool) -> Hypothesis:
    made, count = PRODUCTS[clue.group], len(times)
    factor = np.ones(inputs[-1].stop)
    for here, often in zip(inputs, times, strict=True):
        factor[here] = often

    def rule(at):
        x = join_heads(at[made.source]) * factor.astype(at.ops.dtype)
        if not bias:
            return at.ops.row_parallel(x, getattr(at.weights, made.field))  # each rank rounds its part
        y = own_product(at, x)
        return y if biases == 1 else y + ((biases - 1) * at.vector(made.field + "_bias")).astype(y.dtype)

    name, what = _named(clue, times, biases, made.field)
    parameters = [Parameter("times", times, None, [1] * count)]
    wrong = [rank for rank, often in enumerate(times) if often != 1]
    parameters += [Parameter("rank", wrong)] if wrong and len(wrong) < count else []
    return Hypothesis(mutant_of(name, what, {clue.group: rule}), tuple(parameters), 0)


def _named(clue: Clue, times: list[int], biases: int, field: str) -> tuple[str, str]:
    """Return name and sentence of a sum that counts ranks wrongly."""
    count, alone = len(times), [rank for rank, often in enumerate(times) if often]
    if set(times) == {1}:
        return "bias_on_every_rank", f"The bias of {field} is added {biases} times: on each of {count} ranks."
    if set(times) == {count}:
        return (
            "sum_reduced_twice",
            f"The sum of {field} over {count} ranks is reduced twice: it is {count} times as large.",
        )
    if len(alone) == 1 and times[alone[0]] == 1 and (own_of(clue.there, clue.tap) or count > 2):
        return (
            "sum_not_reduced",
            f"The sum of {field} over {count} ranks is not reduced: each goes on with its part.",
        )
    if set(times) == {0, 1}:
        lost = [rank for rank, often in enumerate(times) if not often]
        return "rank_left_out", f"The sum of {field} over {count} ranks lacks the part of {listed(lost)}."
    told = and_more([f"{often} times rank {rank}'s" for rank, often in enumerate(times) if often != 1], MOST_SPANS)
    return "ranks_miscounted", f"The sum of {field} over {count} ranks has {told} part."


def _several(clue: Clue) -> bool:
    return _count(clue) > 1


def _some_wrong(clue: Clue) -> bool:
    return bool(wrong_ranks(clue, "slice") or wrong_ranks(clue, "replica"))


OF_RANKS = (
    Family("sums of ranks", SUMS, _times, tokens=2, only=_several),
    Family("slices of ranks", frozenset(PRODUCTS) - SUMS, slices, tokens=2, only=_some_wrong),
    Family("gains of ranks", frozenset(NORMS), gains, tokens=2, only=_some_wrong),
)
