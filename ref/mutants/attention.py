"""Mistakes in scores, softmax and mix."""

import numpy as np

from ref.emulate.operands import to_float16
from ref.emulate.text_rules import LAYER, scores_of
from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs

SCORES, PROBS, MIX = LAYER + "attn.scores", LAYER + "attn.probs", LAYER + "attn.mix"


def _tiled(at, x):
    """Lay heads out so that query head n meets key head n mod K."""
    order = np.arange(at.config.query_heads) % at.config.kv_heads
    return x[:, :, order]


def _tiled_scores(at):
    k, _, _ = at.keys()
    return at.ops.scores(at["attn.q_rope"], _tiled(at, k), at.config.query_scale)


def _tail(at, probs):
    _, v, _ = at.keys()
    keys = min(probs.shape[-1], v.shape[1])
    return probs[..., probs.shape[-1] - keys :], v[:, v.shape[1] - keys :]


def _tiled_mix(at):
    probs, v = _tail(at, at["attn.probs"])
    return at.ops.mix(probs, _tiled(at, v))


def _softcapped(at):
    return 50 * np.tanh(scores_of(at) / 50)


def _coarse_probs(at):
    """Softmax in float16: the exponential and the sum are rounded."""
    scores = at["attn.scores"]
    seen = at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1])[:, None]
    wide = np.where(seen, scores, -np.inf)
    weights = to_float16(np.exp(wide - wide.max(axis=-1, keepdims=True)).astype(np.float32))
    total = to_float16(weights.sum(axis=-1, keepdims=True))
    return np.where(seen, to_float16(weights / np.where(total == 0, 1, total)), 0).astype(scores.dtype)


def _over_queries(at):
    scores = at["attn.scores"]
    seen = at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1])[:, None]
    wide = np.where(seen, scores, -np.inf)
    weights = np.where(seen, np.exp(wide - wide.max(axis=-1, keepdims=True)), 0)
    return weights / np.maximum(weights.sum(axis=-2, keepdims=True), 1e-30)


def _with_sink(at):
    """One more weight of exp(0) in the sum."""
    scores = at["attn.scores"]
    seen = at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1])
    weights, whole, empty = unnormed(scores, seen)
    return weights / (whole + empty)


def unnormed(scores: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the weights of keys before they are divided by their sum, that sum, and the weight of a score of 0.

    Args:
        scores: [B, N, T, S] before the mask.
        seen: [B, T, S] bool.

    Returns:
        ([B, N, T, S], [B, N, T, 1], [B, N, T, 1]), all over e to the largest score, at least 0.
    """
    wide = np.where(seen[:, None], scores, -np.inf)
    most = np.maximum(wide.max(axis=-1, keepdims=True), 0)
    weights = np.exp(wide - most)
    return weights, weights.sum(axis=-1, keepdims=True), np.exp(-most)


def _minus_one_mask(at):
    """Hidden keys are given -1 instead of minus infinity: the mask is added as numbers."""
    scores = at["attn.scores"]
    seen = at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1])
    return at.ops.softmax(np.where(seen[:, None], scores, scores - 1), np.ones_like(seen))


def _multiplied_mask(at):
    """The mask multiplies the scores: hidden keys keep a score of 0."""
    scores = at["attn.scores"]
    seen = at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1])
    return at.ops.softmax(np.where(seen[:, None], scores, 0), np.ones_like(seen))


def _normed_values(at):
    probs, v = _tail(at, at["attn.probs"])
    return at.ops.mix(probs, at.ops.rms_norm(v, np.zeros(v.shape[-1]), at.config.rms_eps))


def _mixed_keys(at):
    probs, _ = _tail(at, at["attn.probs"])
    k, _, _ = at.keys()
    return at.ops.mix(probs, k[:, k.shape[1] - probs.shape[-1] :])


def _scaled(factor):
    return {SCORES: lambda at: scores_of(at, scale=factor(at))}


ATTENTION_MUTANTS = [
    TapMutant(
        name="scale_of_head_dim",
        what="Scores are divided by sqrt(H) instead of by sqrt(query_pre_attn_scalar).",
        needs=Needs(sizes=("27B",)),
        rules=_scaled(lambda at: at.config.head_dim**-0.5),
    ),
    TapMutant(
        name="scale_of_width",
        what="Scores are divided by sqrt(D / N).",
        needs=Needs(note="a size where D / N is another"),
        rules=_scaled(lambda at: (at.config.width / at.config.query_heads) ** -0.5),
    ),
    TapMutant(
        name="scale_missing",
        what="Scores are not scaled.",
        needs=Needs(),
        rules=_scaled(lambda at: 1.0),
    ),
    TapMutant(
        name="scale_twice",
        what="Queries are scaled, and scores again; or scores are divided by query_pre_attn_scalar, not its root.",
        needs=Needs(),
        rules=_scaled(lambda at: at.config.query_scale**2),
    ),
    TapMutant(
        name="gqa_tiled_keys",
        what="Query head n meets key head n mod K instead of n div G.",
        needs=Needs(kv_heads=2, group=2),
        rules={SCORES: _tiled_scores},
    ),
    TapMutant(
        name="gqa_tiled_values",
        what="Query head n takes values of head n mod K.",
        needs=Needs(kv_heads=2, group=2),
        rules={MIX: _tiled_mix},
    ),
    TapMutant(
        name="attention_softcap",
        what="Scores go through the softcap of Gemma 2: 50 tanh(x / 50).",
        needs=Needs(note="scores of 10 and more"),
        rules={SCORES: _softcapped},
        subtle=True,
    ),
    TapMutant(
        name="softmax_float16",
        what="Softmax runs in float16.",
        needs=Needs(float32=True),
        rules={PROBS: _coarse_probs},
        subtle=True,
        wide=True,
    ),
    TapMutant(
        name="softmax_over_queries",
        what="Softmax sums over queries instead of keys.",
        needs=Needs(tokens=2),
        rules={PROBS: _over_queries},
    ),
    TapMutant(
        name="softmax_with_sink",
        what="A weight of exp(0) is added to the sum, as models with attention sinks do.",
        needs=Needs(note="scores that are not far above 0"),
        rules={PROBS: _with_sink},
        subtle=True,
    ),
    TapMutant(
        name="mask_of_ones",
        what="Hidden keys lose 1 instead of infinity: a boolean mask was added.",
        needs=Needs(tokens=2),
        rules={PROBS: _minus_one_mask},
    ),
    TapMutant(
        name="mask_multiplied",
        what="The mask multiplies scores, so hidden keys keep a score of 0.",
        needs=Needs(tokens=2),
        rules={PROBS: _multiplied_mask},
    ),
    TapMutant(
        name="values_normed",
        what="Values are normalised like keys, as in Gemma 3n.",
        needs=Needs(),
        rules={MIX: _normed_values},
    ),
    TapMutant(
        name="keys_as_values",
        what="Keys are mixed instead of values.",
        needs=Needs(),
        rules={MIX: _mixed_keys},
    ),
]
