"""Rules of the text model: how each of its taps is made from others."""

import numpy as np

from ref.emulate.context import Context, Rule, join_heads, split_heads
from ref.model.inputs import insert
from ref.model.taps import tap_group

LAYER = "text.layer.*."


def _in(at: Context):
    if at.layer:
        return at[f"text.layer.{at.layer - 1}.out"]
    return at["model.merged"] if at.one_pass.places.any() else at["text.embed"]


def norm_input(at: Context) -> np.ndarray:
    """Return what an RMSNorm is applied to."""
    if at.tap == "text.final_norm":
        return at[f"text.layer.{at.one_pass.layers - 1}.out"]
    return at[NORMS[tap_group(at.tap)][0]]


def _norm(at: Context):
    return at.ops.rms_norm(norm_input(at), at.vector(NORMS[tap_group(at.tap)][1]), norm_eps(at))


def norm_eps(at: Context) -> float:
    """Return the epsilon of an RMSNorm."""
    return at.vision.layer_norm_eps if at.tap == "vision.soft_norm" else at.config.rms_eps


NORMS = {  # tap group: input, field of the gain
    LAYER + "attn.pre_norm": ("in", "pre_attn_norm"),
    LAYER + "attn.q_norm": ("attn.q", "q_norm"),
    LAYER + "attn.k_norm": ("attn.k", "k_norm"),
    LAYER + "attn.post_norm": ("attn.out", "post_attn_norm"),
    LAYER + "ffn.pre_norm": ("mid", "pre_ffn_norm"),
    LAYER + "ffn.post_norm": ("ffn.out", "post_ffn_norm"),
    "text.final_norm": ("", "final_norm"),
    "vision.soft_norm": ("vision.pool", "soft_norm"),
}


def _probs(at: Context):
    scores = at["attn.scores"]
    return at.ops.softmax(scores, at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1]))


def scores_of(at: Context, q: np.ndarray | None = None, scale: float | None = None) -> np.ndarray:
    """Compute the scores, with another query or scale if one is given."""
    k, _, _ = at.keys()
    return at.ops.scores(at["attn.q_rope"] if q is None else q, k, at.config.query_scale if scale is None else scale)


def _mix(at: Context):
    k, v, origin = at.keys()
    if not (at.is_given("attn.scores") or at.is_known("attn.probs") or at.is_mutated("attn.scores", "attn.probs")):
        at.passes_through("attn.scores", "attn.probs")
        return at.ops.attend(at["attn.q_rope"], k, v, at.seen(k.shape[1], origin), at.config.query_scale)
    probs = at["attn.probs"]
    keys = min(probs.shape[-1], v.shape[1])  # what only one of them holds is too old to be seen
    return at.ops.mix(probs[..., probs.shape[-1] - keys :], v[:, v.shape[1] - keys :])


def _visible(at: Context):
    return at.one_pass.visible(at.layer)


def _cache(at: Context, name):
    k, v = at.run.history(at.prefix)
    return at.ops.keep(k if name == "k" else v)


TEXT_RULES: dict[str, Rule] = {
    "text.embed": lambda at: at.ops.embed(at.one_pass.ids, at.one_pass.table, np.sqrt(np.float64(at.config.width))),
    "model.merged": lambda at: insert(at["text.embed"], at["vision.soft_tokens"], at.one_pass.places),
    LAYER + "in": _in,
    LAYER + "attn.q": lambda at: split_heads(at.ops.linear(at["attn.pre_norm"], at.weights.q), at.config.query_heads),
    LAYER + "attn.k": lambda at: split_heads(at.ops.linear(at["attn.pre_norm"], at.weights.k), at.config.kv_heads),
    LAYER + "attn.v": lambda at: split_heads(at.ops.linear(at["attn.pre_norm"], at.weights.v), at.config.kv_heads),
    LAYER + "attn.q_rope": lambda at: at.ops.rotate(at["attn.q_norm"], *at.places()),
    LAYER + "attn.k_rope": lambda at: at.ops.rotate(at["attn.k_norm"], *at.places()),
    LAYER + "cache.k": lambda at: _cache(at, "k"),
    LAYER + "cache.v": lambda at: _cache(at, "v"),
    LAYER + "cache.positions": lambda at: at.one_pass.cached_positions(),
    LAYER + "attn.visible": _visible,
    LAYER + "attn.scores": scores_of,
    LAYER + "attn.probs": _probs,
    LAYER + "attn.mix": _mix,
    LAYER + "attn.out": lambda at: at.ops.row_parallel(join_heads(at["attn.mix"]), at.weights.attn_out),
    LAYER + "mid": lambda at: at.ops.add(at["in"], at["attn.post_norm"]),
    LAYER + "ffn.gate": lambda at: at.ops.linear(at["ffn.pre_norm"], at.weights.gate),
    LAYER + "ffn.up": lambda at: at.ops.linear(at["ffn.pre_norm"], at.weights.up),
    LAYER + "ffn.act": lambda at: at.ops.geglu(at["ffn.gate"], at["ffn.up"]),
    LAYER + "ffn.out": lambda at: at.ops.row_parallel(at["ffn.act"], at.weights.down),
    LAYER + "out": lambda at: at.ops.add(at["mid"], at["ffn.post_norm"]),
    "text.logits": lambda at: at.ops.linear(at["text.final_norm"], at.one_pass.head),
    **dict.fromkeys(NORMS, _norm),
}
