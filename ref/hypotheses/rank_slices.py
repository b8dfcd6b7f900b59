"""Another rank's slice, or another part of the weights, in the place of a rank's own."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ref.emulate.graph import RULES
from ref.hypotheses.hypothesis import Clue, Hypothesis, Parameter, mutant_of
from ref.hypotheses.lists import and_more
from ref.hypotheses.products import PRODUCTS
from ref.measure.rank_views import seen_by
from ref.measure.tap_finding import RankFinding

NEAR = 0.1  # share of a slice that may be left with another's rows
PROBES = 8  # channels of a slice that are looked for
MOST = 4  # ranks that a sentence names


def wrong_ranks(clue: Clue, kind: str) -> list[RankFinding]:
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


def slices(clue: Clue) -> Iterator[Hypothesis]:
    """Look for what a rank's slice has among the outputs of all ranks."""
    if clue.value.shape[0] != 1 or clue.axes[:2] not in (["B", "T"], ["B", "P"]):
        return
    t, shown = (x.reshape(len(clue.valid), -1)[clue.valid] for x in (clue.truth, clue.value))
    moves, here = [], []
    for one in wrong_ranks(clue, "slice"):
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

    told = and_more([one.words for one in moves], MOST)
    what = f"{PRODUCTS[clue.group].field} has another slice of the weights: {told}."
    starts = [int(one.source[0]) for one in moves], [int(one.own[0]) for one in moves]
    parameters = Parameter("rank", [one.rank for one in moves]), Parameter("start", starts[0], None, starts[1])
    return Hypothesis(mutant_of("slice_of_another_rank", what, {clue.group: rule}), parameters, 2)
