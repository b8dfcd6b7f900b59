"""Mistakes of single ranks: a sum that lacks one, another rank's slice, a norm whose gain differs between ranks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ref.emulate.context import Rule, join_heads
from ref.emulate.graph import RULES
from ref.emulate.text_rules import NORMS, norm_eps, norm_input
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.lists import and_more, in_spans
from ref.hypotheses.norms import without_gain
from ref.hypotheses.products import PRODUCTS, bias_of, layers_of, own_product, screen_of, values_of
from ref.measure.measure_ranks import inputs_of_rank
from ref.measure.rank_views import own_of, seen_by
from ref.measure.rank_words import listed
from ref.measure.tap_finding import RankFinding

CLEAR = 0.1  # how near an integer it must be how often a rank is in a sum
NEAR = 0.1  # share of a slice that may be left with another's rows
PROBES = 8  # channels of a slice that are looked for
SURE = 4.0  # standard errors that a channel's gain must be away
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


def _wrong(clue: Clue, kind: str) -> list[RankFinding]:
    """List the ranks that are off where others are right."""
    held = [one for one in clue.found.finding.ranks if one.kind == kind]
    wrong = [one for one in held if one.off]
    return wrong if len(wrong) < len(held) else []


class _Move(NamedTuple):
    """What a rank's slice has in the place of its own channels, all heads' channels one behind the other."""

    rank: int
    own: np.ndarray
    source: np.ndarray
    axis: str
    size: int  # of a head; 1 without

    @property
    def words(self) -> str:
        """Say it: `on rank 1 heads 0..3 in the place of heads 4..7`."""
        return f"on rank {self.rank} {self._named(self.source)} in the place of {self._named(self.own)}"

    def _named(self, places: np.ndarray) -> str:
        first, last = int(places[0]), int(places[-1])
        if self.axis == "H":
            return f"channels {first % self.size}..{last % self.size} of each head"
        if self.size > 1 and first % self.size == 0 and (last + 1) % self.size == 0:
            several = first // self.size != last // self.size
            return f"heads {first // self.size}..{last // self.size}" if several else f"head {first // self.size}"
        return f"channels {first}..{last}"


def _places(shape: tuple[int, ...], axis: int, start: int, count: int) -> np.ndarray:
    """List the channels of a slice, all heads' channels one behind the other."""
    every = np.arange(int(np.prod(shape))).reshape(shape)
    return np.take(every, np.arange(start, start + count), axis=axis).ravel()


def _slices(clue: Clue) -> Iterator[Hypothesis]:
    """Look for what a rank's slice has among the outputs of all ranks."""
    if clue.value.shape[0] != 1 or clue.axes[:2] not in (["B", "T"], ["B", "P"]):
        return
    t, shown = (x.reshape(len(clue.valid), -1)[clue.valid] for x in (clue.truth, clue.value))
    moves, here = [], []
    for one in _wrong(clue, "slice"):
        shape, axis = clue.value.shape[2:], clue.axes[2:].index(one.axis)
        own = _places(shape, axis, one.start, one.stop - one.start)
        mine = seen_by(clue.there, clue.tap, one.rank).reshape(len(clue.valid), -1)[clue.valid][:, own]
        source = _in_heads(mine, t, shape, one) if one.axis == "H" else _in_a_row(mine, t)
        if source is None or np.array_equal(source, own):
            return
        moves.append(_Move(one.rank, own, source, one.axis, shape[1] if len(shape) > 1 else 1))
        if np.array_equal(mine, shown[:, own]):  # of several that share a slice one is judged
            here.append(moves[-1])
    if here:
        yield _moved(clue, moves, here)


def _in_a_row(y: np.ndarray, t: np.ndarray) -> np.ndarray | None:
    """Return which channels of t are those of y, where they are there one behind the other."""
    probes = np.unique(np.linspace(0, y.shape[1] - 1, PROBES).astype(int))
    starts = np.arange(t.shape[1] - y.shape[1] + 1)
    left = np.zeros(len(starts))
    for probe in probes:
        left += np.sum((t[:, starts + probe] - y[:, probe : probe + 1]) ** 2, axis=0)
    source = int(left.argmin()) + np.arange(y.shape[1])
    return source if _is_near(y, t[:, source]) else None


def _in_heads(y: np.ndarray, t: np.ndarray, shape: tuple[int, ...], one: RankFinding) -> np.ndarray | None:
    """Return which channels of each head are those of y."""
    count = one.stop - one.start
    several = [_places(shape, 1, start, count) for start in range(shape[1] - count + 1)]
    source = min(several, key=lambda places: float(np.sum((t[:, places] - y) ** 2)))
    return source if _is_near(y, t[:, source]) else None


def _is_near(y: np.ndarray, t: np.ndarray) -> bool:
    return float(np.sum((y - t) ** 2)) < NEAR**2 * float(np.sum(y * y))


def _moved(clue: Clue, moves: Sequence[_Move], here: Sequence[_Move]) -> Hypothesis:
    def rule(at):
        y = RULES[clue.group](at)
        flat = y.reshape(*y.shape[:2], -1)
        out = flat.copy()
        for one in here:
            out[..., one.own] = flat[..., one.source]
        return out.reshape(y.shape)

    told = and_more([one.words for one in moves], MOST_SPANS)
    what = f"{PRODUCTS[clue.group].field} has another slice of the weights: {told}."
    starts = [int(one.source[0]) for one in moves], [int(one.own[0]) for one in moves]
    parameters = Parameter("rank", [one.rank for one in moves]), Parameter("start", starts[0], None, starts[1])
    return Hypothesis(mutant_of("slice_of_another_rank", what, {clue.group: rule}), parameters, 2)


def _gains(clue: Clue) -> Iterator[Hypothesis]:
    """Read the gain off the values of a rank that is off."""
    field = NORMS[clue.group][1]
    gain = np.asarray(getattr(clue.there.local.weights, field), np.float64)
    for kind in ("replica", "slice"):
        for one in _wrong(clue, kind)[:1]:
            here = _of_rank(clue, one)
            t, y = (x[here][:, clue.valid].reshape(-1, len(gain)) for x in (clue.truth, clue.value))
            yield from _other_gain(clue, [row.rank for row in _wrong(clue, kind)], field, gain, t, y, here)


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


def _several(clue: Clue) -> bool:
    return _count(clue) > 1


def _some_wrong(clue: Clue) -> bool:
    return bool(_wrong(clue, "slice") or _wrong(clue, "replica"))


OF_RANKS = (
    Family("sums of ranks", SUMS, _times, tokens=2, only=_several),
    Family("slices of ranks", frozenset(PRODUCTS) - SUMS, _slices, tokens=2, only=_some_wrong),
    Family("gains of ranks", frozenset(NORMS), _gains, tokens=2, only=_some_wrong),
)
