"""A number format of single steps inside a norm or a softmax."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ref.emulate.operands import ROUND
from ref.emulate.text_rules import LAYER, NORMS, norm_eps, norm_input
from ref.emulate.tower_rules import TOWER
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.model.taps import tap_group

VARIANCE = {
    "input": "In the norm the row, its squares and their mean are rounded to {kind}.",
    "all": "In the norm every step is rounded to {kind}.",
    "sum": "In the norm the mean square is gathered in {kind}, 32 terms at a time.",
    "mean": "In the norm the mean square is rounded to {kind}.",
    "squares": "In the norm squares, mean and inverse root are rounded to {kind}.",
    "root": "In the norm the inverse root is rounded to {kind}.",
    "normed": "In the norm the normalised row is rounded to {kind} before the gain.",
}
SOFTMAX = {
    "input": "Scores are rounded to {kind} before softmax.",
    "all": "Softmax runs in {kind}.",
    "ends": "Scores and weights are rounded to {kind}.",
    "output": "Weights are rounded to {kind}.",
    "sum": "The sum of weights is kept in {kind}.",
}


def _each(clue: Clue, name: str, ways: dict[str, str], made: Callable) -> Iterator[Hypothesis]:
    """Run an operation in each narrow format in each of its usual ways."""
    for kind in ("bfloat16", "float16"):
        for way, what in ways.items():
            rule = {clue.group: partial(made, rounded=ROUND[kind], way=way)}
            mutant = mutant_of(name, what.format(kind=kind), rule)
            yield Hypothesis(mutant, (Parameter("format", kind, None, "float32"), Parameter("way", way)), 0)


def _norm_in(at, rounded, way: str):
    x = row = norm_input(at).astype(np.float32)
    gain = at.vector(NORMS[tap_group(at.tap)][1]).astype(np.float32)
    eps = np.float32(norm_eps(at))
    f = rounded
    row = f(x) if way == "input" else row
    if way == "sum":
        mean = _gathered(x, f)
    else:
        squares = f(row * row) if way in ("all", "squares", "input") else x * x
        mean = np.mean(squares, axis=-1, keepdims=True, dtype=np.float32)
    mean = f(mean) if way in ("all", "mean", "squares", "input") else mean
    inverse = 1 / np.sqrt(f(mean + eps) if way == "all" else mean + eps)
    inverse = f(inverse) if way in ("all", "root", "squares") else inverse
    normed = f(x * inverse) if way in ("all", "normed") else x * inverse
    out = f(normed * f(1 + gain)) if way == "all" else normed * (1 + gain)
    return at.ops.round(out.astype(at.ops.dtype))


def _gathered(x: np.ndarray, rounded) -> np.ndarray:
    """Return the mean square of each row, its sum rounded after every 32 terms."""
    total = np.zeros((*x.shape[:-1], 1), np.float32)
    squares = rounded(x * x)
    for start in range(0, x.shape[-1], 32):
        total = rounded(total + rounded(squares[..., start : start + 32].sum(-1, keepdims=True, dtype=np.float32)))
    return total / np.float32(x.shape[-1])


def _softmax_in(at, rounded, way: str):
    scores = at["attn.scores"]
    scores = rounded(scores.astype(np.float32)) if way in ("input", "all", "ends") else scores.astype(np.float32)
    if at.tap.startswith("vision."):
        seen = np.ones(scores.shape, bool)
    else:
        seen = at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1])[:, None]
    scores = np.where(seen, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(rounded(scores - top) if way == "all" else scores - top)
    weights = rounded(weights) if way == "all" else weights
    total = weights.sum(-1, keepdims=True, dtype=np.float32)
    total = rounded(total) if way in ("all", "sum") else total
    out = weights / total
    return at.ops.round((rounded(out) if way in ("all", "ends", "output") else out).astype(at.ops.dtype))


FORMAT_STEPS = (
    Family(
        "format of a variance",
        frozenset(NORMS),
        partial(_each, name="variance_rounded", ways=VARIANCE, made=_norm_in),
    ),
    Family(
        "format of softmax",
        frozenset({LAYER + "attn.probs", TOWER + "attn.probs"}),
        partial(_each, name="softmax_rounded", ways=SOFTMAX, made=_softmax_in),
    ),
)
