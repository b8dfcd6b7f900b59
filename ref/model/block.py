"""One decoder layer: the four norms, attention, and the gated feed-forward network."""

from typing import NamedTuple

import numpy as np

from ref.config import TextConfig
from ref.model.cache import KeyView, LayerCache, chronological, extend, in_order
from ref.model.params import LayerParams
from ref.model.taps import SILENCE, Taps
from ref.ops import Ops

MOST_TOKENS = 1024  # in the wide middle of the feed-forward network at a time: what it holds then stays in the cache
FFN_INSIDE = ("ffn.gate", "ffn.up", "ffn.act")


class Place(NamedTuple):
    """Where the tokens of a pass stand, as one kind of layer (local or global) sees it."""

    cos: np.ndarray  # [B, T, H/2]
    sin: np.ndarray  # [B, T, H/2]
    visible: np.ndarray  # [B, T, 2] ranges of key indices
    positions: np.ndarray  # [B, T] int64, -1 on padding


def block(
    x: np.ndarray, p: LayerParams, place: Place, cache: LayerCache | None, c: TextConfig, ops: Ops, tap: Taps
) -> tuple[np.ndarray, LayerCache | None]:
    """Run one decoder layer.

        mid = x   + post_attn_norm(attention(pre_attn_norm(x)))
        out = mid + post_ffn_norm(feed_forward(pre_ffn_norm(mid)))

    Args:
        x: [B, T, D], the residual stream.
        p: the layer's parameters.
        place: rotations and visibility of this kind of layer.
        cache: the layer's keys so far, consumed; None to run without.
        c: the configuration.
        ops: DEFINITION or KERNEL.
        tap: where to report values, under `text.layer.{i}.`.

    Returns:
        (out [B, T, D], the cache after the pass or None).

    Rounding: each op rounds once; the residual sums are in x.dtype.
    Source: transformers 5.23 `Gemma3DecoderLayer`; google-deepmind/gemma `Block`.
    Differs: Gemma 1 has no post norms; Llama has neither these nor the q and k norms.
    """
    x = tap("in", x)
    pre = tap("attn.pre_norm", ops.rms_norm(x, p.pre_attn_norm, c.rms_eps))
    attn, cache = attention(pre, p, place, cache, c, ops, tap)
    mid = tap("mid", x + tap("attn.post_norm", ops.rms_norm(attn, p.post_attn_norm, c.rms_eps)))
    pre = tap("ffn.pre_norm", ops.rms_norm(mid, p.pre_ffn_norm, c.rms_eps))
    ffn = feed_forward(pre, p, ops, tap)
    out = tap("out", mid + tap("ffn.post_norm", ops.rms_norm(ffn, p.post_ffn_norm, c.rms_eps)))
    return out, cache


def attention(
    x: np.ndarray, p: LayerParams, place: Place, cache: LayerCache | None, c: TextConfig, ops: Ops, tap: Taps
) -> tuple[np.ndarray, LayerCache | None]:
    """Grouped-query attention with normalised queries and keys, rotated after the norm.

    Args, Returns: as `block`, without the outer norms and the residual sum.

    Source: transformers 5.23 `Gemma3Attention`.
    Differs: a norm after the rotation gives the same result only where its gain is constant in each rotated pair.
    """
    q, k, v = (_heads(y, c) for y in ops.linears(x, (p.q, p.k, p.v)))
    q, k, v = tap("attn.q", q), tap("attn.k", k), tap("attn.v", v)
    q = tap("attn.q_norm", ops.rms_norm(q, p.q_norm, c.rms_eps))
    k = tap("attn.k_norm", ops.rms_norm(k, p.k_norm, c.rms_eps))
    q = tap("attn.q_rope", ops.rotate(q, place.cos, place.sin))
    k = tap("attn.k_rope", ops.rotate(k, place.cos, place.sin))
    keys = KeyView(k, v, 0)
    if cache is not None:
        keys, cache = extend(cache, k, v, place.positions)
        _tap_cache(cache, tap)
    visible = tap("attn.visible", place.visible)
    mixed = tap("attn.mix", _mix(q, keys, visible, c.query_scale, ops, tap))
    out = tap("attn.out", ops.linear(mixed.reshape(*x.shape[:-1], -1), p.attn_out))
    return out, cache


def feed_forward(x: np.ndarray, p: LayerParams, ops: Ops, tap: Taps) -> np.ndarray:
    """Two projections up, one gates the other, one projection down.

        out = (gelu_tanh(x @ gate.T) * (x @ up.T)) @ down.T

    Args, Returns: [B, T, D] as `block`. Where nobody listens, many tokens go through some at a time.

    Source: transformers 5.23 `Gemma3MLP`.
    Differs: google-deepmind/gemma stacks gate and up in one array (0 is the gate).
    """
    tokens = x.reshape(1, -1, x.shape[-1])
    if tokens.shape[1] > MOST_TOKENS and not any(map(tap.wants, FFN_INSIDE)):
        parts = [tokens[:, t : t + MOST_TOKENS] for t in range(0, tokens.shape[1], MOST_TOKENS)]
        out = np.concatenate([feed_forward(part, p, ops, SILENCE) for part in parts], axis=1)
        return tap("ffn.out", out.reshape(x.shape))
    gate, up = ops.linears(x, (p.gate, p.up))
    gate, up = tap("ffn.gate", gate), tap("ffn.up", up)
    act = tap("ffn.act", ops.geglu(gate, up))
    return tap("ffn.out", ops.linear(act, p.down))


def _heads(x, c: TextConfig):
    return x.reshape(*x.shape[:-1], -1, c.head_dim)  # B T (N H) -> B T N H


def _mix(q, keys: KeyView, visible, scale: float, ops: Ops, tap: Taps):
    """Attend in one kernel, unless somebody listens to what lies between."""
    if not (tap.wants("attn.scores") or tap.wants("attn.probs")):
        return ops.attend(q, keys.k, keys.v, visible, scale, keys.origin)
    keys = in_order(keys, int(visible[..., 1].max()))
    scores = tap("attn.scores", ops.scores(q, keys.k, scale))
    probs = tap("attn.probs", ops.softmax(scores, visible, keys.origin))
    return ops.mix(probs, keys.v)


def _tap_cache(cache: LayerCache, tap: Taps):
    names = ("cache.k", "cache.v", "cache.positions")
    if any(tap.wants(name) for name in names):
        for name, value in zip(names, chronological(cache), strict=True):
            tap(name, value)
