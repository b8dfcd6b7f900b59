"""The rotary embedding: positions, base and factor.

With z the complex number of a pair (x_j + i x_{j + H/2}), a rotation multiplies by exp(i p f_j). What a dump has beside
what went in therefore tells p and f: C[t, j] = sum over heads of conj(z_in) z_out turns by p_t f_j.
"""

import itertools
from collections.abc import Iterator
from copy import copy

import numpy as np

from ref.emulate.context import Context
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.lists import cut_off
from ref.hypotheses.numbers import recognised
from ref.model.taps import row_of
from ref.mutants.rotation import ROPE, turned

# of all that could be explained: worth a closer fit, worth running, and beyond what another position gives
HALF, FITS, GOOD = 0.5, 0.9, 0.98
MOST_POSITIONS, MOST_TOKENS = 16_384, 512  # that are tried, and for which
LEFT = 1e-9  # of all: more than rounding leaves, since on few positions base and factor look alike
SOME_TOKENS = 64  # on which a grid of two numbers is tried


def _turned(at: Context, positions: np.ndarray, base: float | None = None, factor: float | None = None) -> np.ndarray:
    """Rotate by positions as they are, negative ones too."""
    own_base, own_factor = at.config.rope(at.layer)
    table = at.ops.table(positions, at.config.head_dim, base or own_base, own_factor if factor is None else factor)
    return turned(at, *table)


class _Turns:
    """C[t, j], and how well positions and frequencies explain it."""

    def __init__(self, clue: Clue):
        x = clue.input(row_of(clue.tap).inputs[0])[0]
        half = x.shape[-1] // 2
        inside, out = (z[..., :half] + 1j * z[..., half:] for z in (x, clue.value[0]))
        self.tokens = clue.tokens()
        self.c = np.sum(np.conj(inside) * out, axis=1)[self.tokens]
        self.positions = clue.there.one_pass.positions[0][self.tokens].astype(np.float64)
        self.base, self.factor = clue.config.rope(clue.layer)
        self.j, self.most = np.arange(half), float(np.abs(self.c).sum())

    def frequencies(self, base: float | None = None, factor: float | None = None) -> np.ndarray:
        return (base or self.base) ** (-self.j / len(self.j)) / (factor or self.factor)

    def fit(self, positions, frequencies) -> float:
        """Return which share of C positions and frequencies explain: 1 is all of it."""
        return float(np.sum(self.c * np.exp(-1j * np.outer(positions, frequencies))).real) / self.most

    def some(self) -> "_Turns":
        """Return the same of a few tokens, from first to last."""
        few, rows = copy(self), np.unique(np.linspace(0, len(self.c) - 1, SOME_TOKENS).astype(int))
        few.c, few.positions = self.c[rows], self.positions[rows]
        few.most = max(float(np.abs(few.c).sum()), 1e-300)
        return few

    def shift(self) -> tuple[int, float]:
        """Return the shift of all positions that fits best."""
        own = np.sum(self.c * np.exp(-1j * np.outer(self.positions, self.frequencies())), axis=0)
        reach = min(MOST_POSITIONS, 4 * int(self.positions.max(initial=0)) + 1024)
        by = np.arange(-reach, reach + 1)
        scores = (np.exp(-1j * np.outer(by, self.frequencies())) @ own).real
        best = int(np.argmax(scores))
        return int(by[best]), float(scores[best]) / self.most

    def each(self) -> tuple[np.ndarray, float]:
        """Return the position of each token that fits it best."""
        candidates = np.arange(min(MOST_POSITIONS, 4 * int(self.positions.max(initial=0)) + 256))
        # every second pair chooses, so that the others can contradict
        scores = (self.c[:, ::2] @ np.exp(-1j * np.outer(candidates, self.frequencies()[::2])).T).real
        return scores.argmax(axis=1), float(scores.max(axis=1).sum()) / max(float(np.abs(self.c[:, ::2]).sum()), 1e-300)


def _positions(clue: Clue) -> Iterator[Hypothesis]:
    turns = _Turns(clue)
    if not turns.most:
        return
    by, fits = turns.shift()
    if by and fits > FITS:
        which = "queries" if clue.tap.endswith("q_rope") else "keys"
        what = f"Positions of {which} are {abs(by)} too {'large' if by > 0 else 'small'}."
        rule = {clue.group: lambda at: _turned(at, at.one_pass.positions + by)}
        yield Hypothesis(mutant_of("positions_shifted", what, rule), (Parameter("n", by, None, 0),), 1)
    if len(turns.tokens) <= MOST_TOKENS and fits < GOOD:
        yield from _of_tokens(clue, turns)


def _of_tokens(clue: Clue, turns: _Turns) -> Iterator[Hypothesis]:
    places, fits = turns.each()
    first = turns.positions == 0
    places = np.where(first & (np.abs(turns.c[:, 0]) == 0), 0, places)
    if fits < GOOD or np.array_equal(places, turns.positions):
        return
    whole = np.array(clue.there.one_pass.positions)
    whole[0, turns.tokens] = places
    apart = places - turns.positions.astype(np.int64)
    runs = np.flatnonzero(np.diff(apart)) + 1
    words = _in_runs(apart, turns.tokens, [0, *runs.tolist(), len(apart)])
    rule = {
        clue.group: lambda at: _turned(
            at, whole if whole.shape == at.one_pass.positions.shape else at.one_pass.positions
        )
    }
    what = f"Tokens have other positions: {words}."
    value = [int(p) for p in whole[0]]
    yield Hypothesis(
        mutant_of("positions_of_tokens", what, rule), (Parameter("values", value, None, None, words),), 2 + len(runs)
    )


def _in_runs(apart, tokens, cuts) -> str:
    parts = []
    for start, stop in itertools.pairwise(cuts):
        by = int(apart[start])
        how = "right" if not by else f"{abs(by)} too {'large' if by > 0 else 'small'}"
        parts.append(f"{tokens[start]}..{tokens[stop - 1]} {how}")
    return cut_off(parts, 6)


BASES = {f"{m}e{e}": m * 10.0**e for e in range(2, 9) for m in (1, 2, 2.5, 5, 8)}
LADDERS = {f"{n}": float(n) for n in (2, 3, 4, 6, 8, 10, 16, 32, 64)} | {f"1/{n}": 1 / n for n in (2, 3, 4, 8, 16, 32)}


def _base(clue: Clue) -> Iterator[Hypothesis]:
    """Fit base and factor, one of them or both; frequencies are b^(-2j/H) / s."""
    turns = _Turns(clue)
    far = turns.positions.max(initial=0) if len(turns.positions) else 0
    if not turns.most or far < 1:
        return
    fits = []
    for what, grid in (("base", [*np.exp(np.linspace(np.log(50.0), np.log(1e9), 240)), *BASES.values()]),
                       ("factor", [*LADDERS.values(), *np.geomspace(1 / 64, 64, 400)])):  # fmt: skip
        frequencies = (lambda b: turns.frequencies(b)) if what == "base" else (lambda f: turns.frequencies(None, f))
        share, start = max((turns.fit(turns.positions, frequencies(number)), number) for number in grid)
        if share < HALF:
            continue
        number, share, stderr = _climb(turns, start, frequencies)
        fits.append(share)
        own = turns.base if what == "base" else turns.factor
        if share > FITS and abs(np.log(number / own)) > 4 * stderr:
            yield _rotary(clue, what, number, stderr * number, own, BASES if what == "base" else LADDERS | {"1": 1.0})
    if 1 - max(fits, default=0.0) > LEFT:
        yield from _both(clue, turns)


def _both(clue: Clue, turns: _Turns) -> Iterator[Hypothesis]:
    """Fit a base together with one of the usual factors."""
    bases = np.exp(np.linspace(np.log(500.0), np.log(1e8), 120))
    pairs = itertools.product(bases, (1.0, *LADDERS.values()))
    few = turns.some()
    share, start, factor = max((few.fit(few.positions, few.frequencies(*pair)), *pair) for pair in pairs)
    if share < HALF or factor == turns.factor:  # the base alone was fitted already
        return
    base, share, stderr = _climb(turns, start, lambda b: turns.frequencies(b, factor))
    if share > FITS and abs(np.log(base / turns.base)) > 4 * stderr:
        one = _rotary(clue, "base", base, stderr * base, turns.base, BASES, factor)
        more = Parameter("factor", factor, None, turns.factor)
        yield one._replace(parameters=(*one.parameters, more), free=2)


def _climb(turns: _Turns, start: float, frequencies) -> tuple[float, float, float]:
    """Refine the logarithm of a number by Newton's method on what is explained: (number, share, standard error)."""
    u, h = np.log(start), 1e-4
    share = lambda u: turns.fit(turns.positions, frequencies(np.exp(u)))  # noqa: E731
    at = share(u)
    for _ in range(40):
        left, right = share(u - h), share(u + h)
        slope, curve = (right - left) / (2 * h), (right - 2 * at + left) / h**2
        step = -slope / curve if curve < 0 else np.sign(slope) * 1e-3
        step = float(np.clip(step, -0.02, 0.02))
        while abs(step) > 1e-13 and share(u + step) < at:
            step /= 4
        if abs(step) <= 1e-13:
            break
        u, at = u + step, share(u + step)
    curve = (share(u + 1e-3) - 2 * at + share(u - 1e-3)) / 1e-6
    count = max(1, np.count_nonzero(turns.c))
    stderr = np.sqrt(max(1 - at, 1e-15) / max(-curve, 1e-12) / count) * 2
    return float(np.exp(u)), at, float(stderr)


def _rotary(
    clue: Clue, name: str, value: float, stderr: float, right: float, known, factor: float | None = None
) -> Hypothesis:
    near = recognised(value, stderr, known)
    value, words = near or (value, "")
    kind = "global" if clue.config.is_global(clue.layer) else "local"
    what = f"The rotation's {name} in a {kind} layer is {value:.6g}, not {right:.6g}."
    what = what if factor is None else f"{what[:-1]}, and the factor {factor:g}."
    numbers = {name: value} | ({} if factor is None else {"factor": factor})
    rule = {clue.group: lambda at: _turned(at, np.maximum(at.one_pass.positions, 0), **numbers)}
    return Hypothesis(
        mutant_of(f"rotary_{name}", what, rule), (Parameter(name, value, None if near else stderr, right, words),), 1
    )


ROTATIONS = (
    Family("positions", frozenset(ROPE), _positions),
    Family("rotary base and factor", frozenset(ROPE), _base, tokens=3),
)
