"""Values times a number: embedding scale, softmax scale, logits, any other tap; and softcaps."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.arithmetic import TRUTH
from ref.emulate.context import as_seen
from ref.emulate.graph import RULES
from ref.emulate.text_rules import LAYER, scores_of
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, after, mutant_of
from ref.hypotheses.numbers import FACTORS, fit_number, known_roots, recognised
from ref.measure.projection import spread_of

SURE = 4.0  # standard errors by which a number must differ from the right one
SCORES, PROBS, LOGITS, EMBED = LAYER + "attn.scores", LAYER + "attn.probs", "text.logits", "text.embed"


def _slope(clue: Clue) -> tuple[float, float]:
    y, t = clue.by_token(clue.value), clue.by_token(clue.truth)
    square = float(np.vdot(t, t))
    if square == 0:
        return 1.0, np.inf
    c = float(np.vdot(y, t)) / square
    return c, spread_of(y, np.zeros_like(t), t, c, square)


def _scale(clue: Clue) -> Iterator[Hypothesis]:
    c, stderr = _slope(clue)
    if stderr == np.inf or abs(c - 1) <= SURE * stderr or c == 0 or abs(c + 1) <= SURE * stderr:  # a sign is no scale
        return
    config = clue.config
    sizes = {"D": config.width, "H": config.head_dim, "query_pre_attn_scalar": config.query_scale**-2}
    if clue.group == EMBED:
        right = float(np.sqrt(config.width))
        yield _number("embedding_scaled", "Embeddings are multiplied by", c * right, stderr * right, right, sizes,
                      lambda s: {EMBED: lambda at: at.ops.embed(at.one_pass.ids, at.one_pass.table, s)})  # fmt: skip
    elif clue.group == SCORES:
        sizes |= {"D/N": config.width / config.query_heads, "2H": 2.0 * config.head_dim}
        right = float(config.query_scale)
        yield _number("softmax_scale", "Scores are multiplied by", c * right, stderr * right, right, sizes,
                      lambda s: {SCORES: lambda at: scores_of(at, scale=s)})  # fmt: skip
    elif clue.group == LOGITS:
        yield _number("logits_scaled", "Logits are multiplied by", c, stderr, 1.0, sizes | {"V": clue.truth.shape[-1]},
                      lambda s: after(LOGITS, lambda x: x * s))  # fmt: skip
    else:
        yield _number("values_scaled", "The result is multiplied by", c, stderr, 1.0, sizes,
                      lambda s: after(clue.group, lambda x: x * s))  # fmt: skip


def _number(name, what, value, stderr, right, sizes, rules) -> Hypothesis:
    known = recognised(value, stderr, known_roots(**sizes) | FACTORS)
    words = ""
    if known:
        value, words = known
    says = f"{what} {value:.6g}{f' = {words}' if words else ''}, not by {right:.6g}."
    parameter = Parameter("scale", float(value), None if known else stderr, right, words)
    return Hypothesis(mutant_of(name, says, rules(float(value))), (parameter,), 1)


def _softcap(clue: Clue) -> Iterator[Hypothesis]:
    y = clue.by_token(clue.value)
    capped = _capped_weights(clue) if clue.group == PROBS else _capped(clue)
    if capped is None:
        return
    model, starts = capped
    cap, stderr = fit_number(model, y, starts)
    if not np.isfinite(stderr) or stderr > cap / 4:
        return
    near = recognised(cap, stderr, {str(n): float(n) for n in (*range(5, 101, 5), 128, 256, 512)})
    cap = near[0] if near else cap
    name = "logit_softcap_of" if clue.group == LOGITS else "attention_softcap_of"
    which = "Logits" if clue.group == LOGITS else "Scores"
    what = f"{which} go through a softcap, {cap:.5g} tanh(x / {cap:.5g}); Gemma 3 has none."

    group = clue.group  # a rule keeps no clue: its arrays are large

    def rule(at):
        if group == PROBS:
            return _weights(at, _through_cap(at, at["attn.scores"], cap))
        return _through_cap(at, RULES[group](at), cap)

    mutant = mutant_of(name, what, {clue.group: rule})
    yield Hypothesis(mutant, (Parameter("cap", float(cap), None if near else stderr, None, ""),), 1)


def _through_cap(at, x, cap: float):
    """Cap values, rounded after each step as a port's are."""
    rounded = at.ops.round
    inner = rounded(np.tanh(rounded((x / cap).astype(at.ops.dtype, copy=False))))
    return rounded((cap * inner).astype(at.ops.dtype, copy=False))


def _capped(clue: Clue):
    y, t = clue.by_token(clue.value), clue.by_token(clue.truth)
    largest = float(np.abs(y).max(initial=0))
    if not largest or np.abs(t).max() < largest:
        return None
    return lambda c: c * np.tanh(t / c), [largest * by for by in (1.0001, 1.01, 1.1, 1.3, 2, 4, 8, 16, 64, 256)]


def _weights(at, scores):
    return at.ops.softmax(scores, at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1]))


def _capped_weights(clue: Clue):
    """Return how weights depend on a cap of scores: where the cap stands behind the scores that the dump has."""
    scores, softmax = clue.input("attn.scores"), _softmax_at(clue)
    if softmax is None or not np.abs(scores).max(initial=0):
        return None
    return lambda c: clue.by_token(softmax(c * np.tanh(scores / c))), list(np.geomspace(0.5, 500, 24))


def _softmax_at(clue: Clue):
    """Return softmax over the keys that are visible at a tap of weights."""
    if clue.tap.startswith("vision."):
        return None
    one_pass, keys = clue.there.one_pass, clue.value.shape[-1]
    seen = as_seen(clue.input("attn.visible"), keys, one_pass.total - keys, one_pass.total)
    return lambda scores: TRUTH.softmax(scores, seen)


def _scale_of_weights(clue: Clue) -> Iterator[Hypothesis]:
    """Fit a factor of the scores behind the tap of scores."""
    softmax = _softmax_at(clue)
    if softmax is None:
        return
    scores, right = clue.input("attn.scores"), float(clue.config.query_scale)
    y = clue.by_token(clue.value)
    by, stderr = fit_number(lambda c: clue.by_token(softmax(scores * c)), y, list(np.geomspace(0.02, 50, 24)))
    if not np.isfinite(stderr) or abs(by - 1) <= SURE * stderr:
        return
    sizes = {"D": clue.config.width, "H": clue.config.head_dim, "query_pre_attn_scalar": clue.config.query_scale**-2}
    yield _number(
        "softmax_scale", "Scores are multiplied by", by * right, stderr * right, right, sizes,
        lambda s: {PROBS: lambda at: _weights(at, at["attn.scores"] * (s / right))},
    )  # fmt: skip


def _clamped(clue: Clue) -> Iterator[Hypothesis]:
    y, t = clue.by_token(clue.value), clue.by_token(clue.truth)
    limit = float(np.abs(y).max(initial=0))
    at_limit, beyond = np.abs(y) == limit, np.abs(t) > limit * 1.001
    if not limit or not beyond.any() or not at_limit[beyond].all():
        return
    rules = after(clue.group, lambda x: np.clip(x, -limit, limit))
    words = "the largest float16" if limit == 65504 else ""
    mutant = mutant_of("clamped", f"Values beyond {limit:.6g} are clamped to it.", rules)
    yield Hypothesis(mutant, (Parameter("limit", limit, None, None, words),), 1)


SCALES = (
    Family("scale", None, _scale),
    Family("softcap", frozenset({SCORES, LOGITS, PROBS}), _softcap),
    Family("softmax scale", frozenset({PROBS}), _scale_of_weights),
    Family("clamp", None, _clamped),
)
