"""Mistakes in projections, scores, softmax, mix, and in the cache."""

import numpy as np

from ref.emulate.operands import to_float16
from ref.emulate.text_rules import LAYER, scores_of
from ref.mutants.base import TapMutant

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


def _probs_of(at, scores):
    return at.ops.softmax(scores, at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1]))


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
    seen = at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1])[:, None]
    wide = np.where(seen, scores, -np.inf)
    most = np.maximum(wide.max(axis=-1, keepdims=True), 0)
    weights = np.exp(wide - most)
    return weights / (weights.sum(axis=-1, keepdims=True) + np.exp(-most))


def _minus_one_mask(at):
    """BelowFloor keys are given -1 instead of minus infinity: the mask is added as numbers."""
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


def _by_channel(x):
    """Read [.., N, H] as if it lay as [.., H, N]."""
    return np.ascontiguousarray(np.swapaxes(x, -1, -2)).reshape(*x.shape[:2], -1)


def _heads_last(field, count):
    def rule(at):
        flat = at.ops.linear(at["attn.pre_norm"], getattr(at.weights, field))
        heads = getattr(at.config, count)
        return np.ascontiguousarray(np.swapaxes(flat.reshape(*flat.shape[:2], -1, heads), -1, -2))

    return rule


def _projected(field, count):
    def rule(at):
        y = at.ops.linear(at["attn.pre_norm"], getattr(at.weights, field))
        return y.reshape(*y.shape[:2], getattr(at.config, count), -1)

    return rule


def _rolled_cache(at, name):
    k, v = at.run.history(at.prefix)
    return np.roll(at.ops.keep(k if name == "k" else v), 1, axis=1)


def _stale_cache(at, name):
    """The newest slot holds what was there before: the pass's last key is not written."""
    k, v = at.run.history(at.prefix)
    x = at.ops.keep(k if name == "k" else v).copy()
    x[:, -1] = x[:, -2] if x.shape[1] > 1 else 0
    return x


def _ring_cache(at, name):
    """Keys are read in the order of slots, not of time."""
    k, v = at.run.history(at.prefix)
    x = at.ops.keep(k if name == "k" else v)
    slots = at.config.window_of(at.layer) or x.shape[1]
    newest = np.arange(max(0, x.shape[1] - slots), x.shape[1])
    out = x.copy()
    out[:, newest[0] :] = x[:, newest[np.argsort(newest % slots)]]
    return out


def _cache(rule):
    return {LAYER + "cache.k": lambda at: rule(at, "k"), LAYER + "cache.v": lambda at: rule(at, "v")}


def _scaled(factor):
    return {SCORES: lambda at: scores_of(at, scale=factor(at))}


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
ATTENTION_MUTANTS = [
    TapMutant(
        "scale_of_head_dim",
        "Scores are divided by sqrt(H) instead of by sqrt(query_pre_attn_scalar).",
        f"{S91} (12); gemma.cpp; keras-hub 0.31 (no flag reaches its blocks); ferrox #39",
        "27B",
        _scaled(lambda at: at.config.head_dim**-0.5),
    ),
    TapMutant(
        "scale_of_width",
        "Scores are divided by sqrt(D / N).",
        f"{S91} (13)",
        "a size where D / N is another",
        _scaled(lambda at: (at.config.width / at.config.query_heads) ** -0.5),
    ),
    TapMutant("scale_missing", "Scores are not scaled.", f"{S91} (12)", "any input", _scaled(lambda at: 1.0)),
    TapMutant(
        "scale_twice",
        "Queries are scaled, and scores again; or scores are divided by query_pre_attn_scalar, not its root.",
        f"{S91} (12)",
        "any input",
        _scaled(lambda at: at.config.query_scale**2),
    ),
    TapMutant(
        "gqa_tiled_keys",
        "Query head n meets key head n mod K instead of n div G.",
        f"{S91} (14)",
        "K of 2 or more, and G too",
        {SCORES: _tiled_scores},
    ),
    TapMutant(
        "gqa_tiled_values",
        "Query head n takes values of head n mod K.",
        f"{S91} (14)",
        "K of 2 or more, and G too",
        {MIX: _tiled_mix},
    ),
    TapMutant(
        "attention_softcap",
        "Scores go through the softcap of Gemma 2: 50 tanh(x / 50).",
        f"{S91} (19); Ollama #13474",
        "scores of 10 and more",
        {SCORES: _softcapped},
        True,
    ),
    TapMutant(
        "softmax_float16", "Softmax runs in float16.", f"{S91} (24)", "float32", {PROBS: _coarse_probs}, True, wide=True
    ),
    TapMutant(
        "softmax_over_queries",
        "Softmax sums over queries instead of keys.",
        f"{E14}",
        "two tokens",
        {PROBS: _over_queries},
    ),
    TapMutant(
        "softmax_with_sink",
        "A weight of exp(0) is added to the sum, as models with attention sinks do.",
        "gpt-oss's sinks",
        "scores that are not far above 0",
        {PROBS: _with_sink},
        True,
    ),
    TapMutant(
        "mask_of_ones",
        "BelowFloor keys lose 1 instead of infinity: a boolean mask was added.",
        f"{E14}",
        "two tokens",
        {PROBS: _minus_one_mask},
    ),
    TapMutant(
        "mask_multiplied",
        "The mask multiplies scores, so hidden keys keep a score of 0.",
        f"{E14}",
        "two tokens",
        {PROBS: _multiplied_mask},
    ),
    TapMutant(
        "values_normed",
        "Values are normalised like keys, as in Gemma 3n.",
        "transformers Gemma3nTextAttention",
        "any input",
        {MIX: _normed_values},
    ),
    TapMutant("keys_as_values", "Keys are mixed instead of values.", f"{E14}", "any input", {MIX: _mixed_keys}),
    TapMutant(
        "q_heads_transposed",
        "The query projection's rows are read as [H, N] instead of [N, H].",
        f"{E14}, layouts",
        "more than one head",
        {LAYER + "attn.q": _heads_last("q", "query_heads")},
    ),
    TapMutant(
        "kv_heads_transposed",
        "The key and value projections' rows are read as [H, K].",
        f"{E14}, layouts",
        "K of 2 or more",
        {LAYER + "attn.k": _heads_last("k", "kv_heads"), LAYER + "attn.v": _heads_last("v", "kv_heads")},
    ),
    TapMutant(
        "kv_swapped",
        "Keys come out of the value projection and the reverse: a fused array read wrongly.",
        f"{E14}, fused qkv",
        "any input",
        {LAYER + "attn.k": _projected("v", "kv_heads"), LAYER + "attn.v": _projected("k", "kv_heads")},
    ),
    TapMutant(
        "mix_heads_transposed",
        "The output projection is given [H, N] instead of [N, H].",
        f"{E14}, layouts",
        "more than one head",
        {LAYER + "attn.out": lambda at: at.ops.linear(_by_channel(at["attn.mix"]), at.weights.attn_out)},
    ),
    TapMutant(
        "cache_rolled",
        "Keys and values lie one slot too late in the cache.",
        f"{E14}, rolling cache",
        "a cached pass",
        _cache(_rolled_cache),
    ),
    TapMutant(
        "cache_stale",
        "The newest key is not written before it is read.",
        f"{E14}, wrong slot",
        "a cached pass",
        _cache(_stale_cache),
    ),
    TapMutant(
        "cache_in_slot_order",
        "After the ring has wrapped, keys are read in the order of slots.",
        f"{S91} (22); {E14}",
        "a cached pass longer than the window, and a mask by index",
        _cache(_ring_cache),
    ),
]
