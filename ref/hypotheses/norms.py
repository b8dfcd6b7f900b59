"""Numbers inside a norm: epsilon, and what is added to the gain."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.graph import RULES
from ref.emulate.text_rules import NORMS, norm_eps, norm_input
from ref.emulate.tower_rules import VISION_NORMS, layer_norm_of
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.numbers import recognised
from ref.model.taps import tap_group

SURE = 4.0
USUAL = {f"{m}e-{e}": m * 10.0**-e for e in range(3, 13) for m in (1, 2, 3, 5)}


def input_of(clue: Clue) -> np.ndarray:
    """Return what the norm of a tap is applied to."""
    if clue.tap == "text.final_norm":
        return clue.there.local.value(f"text.layer.{clue.there.one_pass.layers - 1}.out")
    if clue.tap == "vision.post_norm":
        assert clue.there.one_pass.vision is not None
        return clue.there.local.value(f"vision.layer.{clue.there.one_pass.vision.config.layers - 1}.out")
    return clue.input((NORMS | VISION_NORMS)[clue.group][0])


def without_gain(rows: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Divide a norm's rows, [tokens, D], by what it multiplied them with, [D]; 0 where that was next to 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(factor) > 1e-6, rows / factor, 0)


def _epsilon(clue: Clue) -> Iterator[Hypothesis]:
    """Read epsilon off each row's size: (ms + wrong) / (ms + right) is the square of truth over value."""
    x = clue.by_token(input_of(clue)).reshape(-1, clue.value.shape[-1])
    y, t = (clue.by_token(z).reshape(x.shape) for z in (clue.value, clue.truth))
    tower = clue.group in VISION_NORMS
    if tower:
        assert clue.there.one_pass.vision is not None
        x = x - x.mean(axis=1, keepdims=True)
        bias = np.asarray(getattr(clue.there.local.weights, VISION_NORMS[clue.group][1] + "_bias"))
        y, t = y - bias, t - bias
    vision = clue.there.one_pass.vision
    of_tower = vision is not None and (tower or clue.tap == "vision.soft_norm")
    right = vision.config.layer_norm_eps if of_tower and vision else clue.config.rms_eps
    square = np.mean(x * x, axis=1) + right
    along, own = np.sum(y * t, axis=1), np.sum(t * t, axis=1)
    good = (along > 0) & (own > 0)
    if not good.any():
        return
    each = square[good] * ((own[good] / along[good]) ** 2 - 1) + right
    weights = square[good] ** -2
    epsilon = float(np.sum(weights * each) / weights.sum())
    spread = np.sum((weights * (each - epsilon)) ** 2) ** 0.5 / weights.sum() if len(each) > 1 else abs(epsilon) * 0.1
    if epsilon <= 0 or abs(epsilon - right) <= SURE * spread:
        return
    near = recognised(epsilon, spread, USUAL)
    epsilon, words = near or (epsilon, "")
    rule = (lambda at: layer_norm_of(at, epsilon)) if tower else (
        lambda at: at.ops.rms_norm(norm_input(at), at.vector(NORMS[tap_group(at.tap)][1]), epsilon)
    )  # fmt: skip
    mutant = mutant_of("norm_epsilon", f"The norm's epsilon is {epsilon:.3g}, not {right:g}.", {clue.group: rule})
    yield Hypothesis(mutant, (Parameter("epsilon", epsilon, None if near else float(spread), right, words),), 1)


def _offset(clue: Clue) -> Iterator[Hypothesis]:
    """Read off what is added to the gain: y = n (a + w)."""
    field = NORMS[clue.group][1]
    gain = np.asarray(getattr(clue.there.local.weights, field), np.float64)
    t, y = (clue.by_token(x).reshape(-1, len(gain)) for x in (clue.truth, clue.value))
    normed = without_gain(t, 1 + gain)
    square = float(np.vdot(normed, normed))
    if not square:
        return
    left = y - normed * gain
    offset = float(np.vdot(left, normed)) / square
    spread = float(np.sqrt(np.sum((normed * (left - offset * normed)) ** 2))) / square
    if abs(offset - 1) <= SURE * spread:
        return
    near = recognised(offset, spread, {"0": 0.0, "2": 2.0, "1/2": 0.5, "-1": -1.0}) if abs(offset) > 1e-3 else (0.0, "")
    offset, words = near or (offset, "")

    def rule(at):
        return at.ops.rms_norm(norm_input(at), at.vector(field) + (offset - 1), norm_eps(at))

    mutant = mutant_of("norm_gain_offset", f"The gain is {offset:.5g} + w, not 1 + w.", {clue.group: rule})
    yield Hypothesis(mutant, (Parameter("offset", offset, None if near else spread, 1.0, words),), 1)


NORM_FAMILIES = (
    Family("norm epsilon", frozenset(NORMS) | frozenset(VISION_NORMS), _epsilon),
    Family("norm gain", frozenset(NORMS), _offset),
)
assert frozenset(NORMS) <= frozenset(RULES)
