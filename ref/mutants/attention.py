"""Mistakes in projections, scores, softmax, mix, and in the cache."""

import numpy as np

from ref.emulate.graph import L, scores_of
from ref.emulate.operands import to_float16
from ref.mutants.base import TapMutant

SCORES, PROBS, MIX = L + "attn.scores", L + "attn.probs", L + "attn.mix"


def _tiled(c, x):
    """Lay heads out so that query head n meets key head n mod K."""
    order = np.arange(c.c.query_heads) % c.c.kv_heads
    return x[:, :, order]


def _tiled_scores(c):
    k, _, _ = c.keys()
    return c.a.scores(c["attn.q_rope"], _tiled(c, k), c.c.query_scale)


def _tail(c, probs):
    _, v, _ = c.keys()
    keys = min(probs.shape[-1], v.shape[1])
    return probs[..., probs.shape[-1] - keys :], v[:, v.shape[1] - keys :]


def _tiled_mix(c):
    probs, v = _tail(c, c["attn.probs"])
    return c.a.mix(probs, _tiled(c, v))


def _softcapped(c):
    return 50 * np.tanh(scores_of(c) / 50)


def _probs_of(c, scores):
    return c.a.softmax(scores, c.seen(scores.shape[-1], c.world.total - scores.shape[-1]))


def _coarse_probs(c):
    """Softmax in float16: the exponential and the sum are rounded."""
    scores = c["attn.scores"]
    seen = c.seen(scores.shape[-1], c.world.total - scores.shape[-1])[:, None]
    wide = np.where(seen, scores, -np.inf)
    weights = to_float16(np.exp(wide - wide.max(axis=-1, keepdims=True)).astype(np.float32))
    total = to_float16(weights.sum(axis=-1, keepdims=True))
    return np.where(seen, to_float16(weights / np.where(total == 0, 1, total)), 0).astype(scores.dtype)


def _over_queries(c):
    scores = c["attn.scores"]
    seen = c.seen(scores.shape[-1], c.world.total - scores.shape[-1])[:, None]
    wide = np.where(seen, scores, -np.inf)
    weights = np.where(seen, np.exp(wide - wide.max(axis=-1, keepdims=True)), 0)
    return weights / np.maximum(weights.sum(axis=-2, keepdims=True), 1e-30)


def _with_sink(c):
    """One more weight of exp(0) in the sum."""
    scores = c["attn.scores"]
    seen = c.seen(scores.shape[-1], c.world.total - scores.shape[-1])[:, None]
    wide = np.where(seen, scores, -np.inf)
    most = np.maximum(wide.max(axis=-1, keepdims=True), 0)
    weights = np.exp(wide - most)
    return weights / (weights.sum(axis=-1, keepdims=True) + np.exp(-most))


def _minus_one_mask(c):
    """Hidden keys are given -1 instead of minus infinity: the mask is added as numbers."""
    scores = c["attn.scores"]
    seen = c.seen(scores.shape[-1], c.world.total - scores.shape[-1])
    return c.a.softmax(np.where(seen[:, None], scores, scores - 1), np.ones_like(seen))


def _multiplied_mask(c):
    """The mask multiplies the scores: hidden keys keep a score of 0."""
    scores = c["attn.scores"]
    seen = c.seen(scores.shape[-1], c.world.total - scores.shape[-1])
    return c.a.softmax(np.where(seen[:, None], scores, 0), np.ones_like(seen))


def _normed_values(c):
    probs, v = _tail(c, c["attn.probs"])
    return c.a.mix(probs, c.a.rms_norm(v, np.zeros(v.shape[-1]), c.c.rms_eps))


def _mixed_keys(c):
    probs, _ = _tail(c, c["attn.probs"])
    k, _, _ = c.keys()
    return c.a.mix(probs, k[:, k.shape[1] - probs.shape[-1] :])


def _by_channel(x):
    """Read [.., N, H] as if it lay as [.., H, N]."""
    return np.ascontiguousarray(np.swapaxes(x, -1, -2)).reshape(*x.shape[:2], -1)


def _heads_last(field, count):
    def rule(c):
        flat = c.a.linear(c["attn.pre_norm"], getattr(c.p, field))
        heads = getattr(c.c, count)
        return np.ascontiguousarray(np.swapaxes(flat.reshape(*flat.shape[:2], -1, heads), -1, -2))

    return rule


def _projected(field, count):
    def rule(c):
        y = c.a.linear(c["attn.pre_norm"], getattr(c.p, field))
        return y.reshape(*y.shape[:2], getattr(c.c, count), -1)

    return rule


def _rolled_cache(c, name):
    k, v = c.run.history(c.prefix)
    return np.roll(c.a.keep(k if name == "k" else v), 1, axis=1)


def _stale_cache(c, name):
    """The newest slot holds what was there before: the pass's last key is not written."""
    k, v = c.run.history(c.prefix)
    x = c.a.keep(k if name == "k" else v).copy()
    x[:, -1] = x[:, -2] if x.shape[1] > 1 else 0
    return x


def _ring_cache(c, name):
    """Keys are read in the order of slots, not of time."""
    k, v = c.run.history(c.prefix)
    x = c.a.keep(k if name == "k" else v)
    slots = c.c.window_of(c.layer) or x.shape[1]
    newest = np.arange(max(0, x.shape[1] - slots), x.shape[1])
    out = x.copy()
    out[:, newest[0] :] = x[:, newest[np.argsort(newest % slots)]]
    return out


def _cache(rule):
    return {L + "cache.k": lambda c: rule(c, "k"), L + "cache.v": lambda c: rule(c, "v")}


def _scaled(factor):
    return {SCORES: lambda c: scores_of(c, scale=factor(c))}


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
# fmt: off
ATTENTION_MUTANTS = [
    TapMutant("scale_of_head_dim", "Scores are divided by sqrt(H) instead of by sqrt(query_pre_attn_scalar).",
              f"{S91} (12); gemma.cpp; keras-hub 0.31 (no flag reaches its blocks); ferrox #39", "27B",
              _scaled(lambda c: c.c.head_dim**-0.5)),
    TapMutant("scale_of_width", "Scores are divided by sqrt(D / N).", f"{S91} (13)", "a size where D / N is another",
              _scaled(lambda c: (c.c.width / c.c.query_heads) ** -0.5)),
    TapMutant("scale_missing", "Scores are not scaled.", f"{S91} (12)", "any input", _scaled(lambda c: 1.0)),
    TapMutant("scale_twice",
              "Queries are scaled, and scores again; or scores are divided by query_pre_attn_scalar, not its root.",
              f"{S91} (12)", "any input",
              _scaled(lambda c: c.c.query_scale**2)),
    TapMutant("gqa_tiled_keys", "Query head n meets key head n mod K instead of n div G.", f"{S91} (14)",
              "K of 2 or more, and G too", {SCORES: _tiled_scores}),
    TapMutant("gqa_tiled_values", "Query head n takes values of head n mod K.", f"{S91} (14)",
              "K of 2 or more, and G too", {MIX: _tiled_mix}),
    TapMutant("attention_softcap", "Scores go through the softcap of Gemma 2: 50 tanh(x / 50).",
              f"{S91} (19); Ollama #13474", "scores of 10 and more", {SCORES: _softcapped}, True),
    TapMutant("softmax_float16", "Softmax runs in float16.", f"{S91} (24)", "float32", {PROBS: _coarse_probs}, True,
              wide=True),
    TapMutant("softmax_over_queries", "Softmax sums over queries instead of keys.", f"{E14}", "two tokens",
              {PROBS: _over_queries}),
    TapMutant("softmax_with_sink", "A weight of exp(0) is added to the sum, as models with attention sinks do.",
              "gpt-oss's sinks", "scores that are not far above 0", {PROBS: _with_sink}, True),
    TapMutant("mask_of_ones", "Hidden keys lose 1 instead of infinity: a boolean mask was added.", f"{E14}",
              "two tokens", {PROBS: _minus_one_mask}),
    TapMutant("mask_multiplied", "The mask multiplies scores, so hidden keys keep a score of 0.", f"{E14}",
              "two tokens", {PROBS: _multiplied_mask}),
    TapMutant("values_normed", "Values are normalised like keys, as in Gemma 3n.", "transformers Gemma3nTextAttention",
              "any input", {MIX: _normed_values}),
    TapMutant("keys_as_values", "Keys are mixed instead of values.", f"{E14}", "any input", {MIX: _mixed_keys}),
    TapMutant("q_heads_transposed", "The query projection's rows are read as [H, N] instead of [N, H].",
              f"{E14}, layouts", "more than one head", {L + "attn.q": _heads_last("q", "query_heads")}),
    TapMutant("kv_heads_transposed", "The key and value projections' rows are read as [H, K].", f"{E14}, layouts",
              "K of 2 or more",
              {L + "attn.k": _heads_last("k", "kv_heads"), L + "attn.v": _heads_last("v", "kv_heads")}),
    TapMutant("kv_swapped", "Keys come out of the value projection and the reverse: a fused array read wrongly.",
              f"{E14}, fused qkv", "any input",
              {L + "attn.k": _projected("v", "kv_heads"), L + "attn.v": _projected("k", "kv_heads")}),
    TapMutant("mix_heads_transposed", "The output projection is given [H, N] instead of [N, H].", f"{E14}, layouts",
              "more than one head", {L + "attn.out": lambda c: c.a.linear(_by_channel(c["attn.mix"]), c.p.attn_out)}),
    TapMutant("cache_rolled", "Keys and values lie one slot too late in the cache.", f"{E14}, rolling cache",
              "a cached pass", _cache(_rolled_cache)),
    TapMutant("cache_stale", "The newest key is not written before it is read.", f"{E14}, wrong slot",
              "a cached pass", _cache(_stale_cache)),
    TapMutant("cache_in_slot_order", "After the ring has wrapped, keys are read in the order of slots.",
              f"{S91} (22); {E14}", "a cached pass longer than the window, and a mask by index", _cache(_ring_cache)),
]
# fmt: on
