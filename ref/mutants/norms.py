"""Mistakes in RMSNorm and in which norm stands where."""

import numpy as np

from ref.emulate.text_rules import LAYER, NORMS, norm_eps, norm_input
from ref.model.taps import tap_group
from ref.mutants.base import TapMutant, everywhere
from ref.mutants.needs import Needs
from ref.ops.rounding import bfloat16_values

RMS = tuple(NORMS)


def gain_of(at):
    """Return the gain of the norm that a rule stands for."""
    return at.vector(NORMS[tap_group(at.tap)][1])


def _with_gain(change):
    return lambda at: at.ops.rms_norm(norm_input(at), change(gain_of(at)), norm_eps(at))


def _outside_root(at):
    x = norm_input(at)
    root = np.sqrt(np.mean(x * x, axis=-1, keepdims=True))
    return x / (root + norm_eps(at)) * (1 + gain_of(at))


def _centred(at):
    x = norm_input(at)
    return at.ops.rms_norm(x - x.mean(axis=-1, keepdims=True), gain_of(at), norm_eps(at))


def _summed(at):
    x = norm_input(at)
    return x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True) + norm_eps(at)) * (1 + gain_of(at))


def _rounded_variance(at):
    x = norm_input(at)
    square = np.mean(x * x, axis=-1, keepdims=True) + norm_eps(at)
    inverse = bfloat16_values((1 / np.sqrt(square)).astype(np.float32)).astype(x.dtype)
    return x * inverse * (1 + gain_of(at))


def _rounded_gain(at):
    gain = bfloat16_values((1 + gain_of(at)).astype(np.float32)).astype(at.ops.dtype)
    return at.ops.rms_norm(norm_input(at), gain - 1, norm_eps(at))


def _rounded_input(at):
    """Llama's order: the normalised row is rounded to bfloat16 before it meets the gain."""
    normed = at.ops.rms_norm(norm_input(at), np.zeros_like(gain_of(at)), norm_eps(at))
    return bfloat16_values(normed.astype(np.float32)).astype(at.ops.dtype) * (1 + gain_of(at))


def _with_field(field):
    return lambda at: at.ops.rms_norm(norm_input(at), at.vector(field), at.config.rms_eps)


def _skip(at):
    return norm_input(at)


def _over_heads(at):
    """One norm over all heads together."""
    x = norm_input(at)
    flat = x.reshape(*x.shape[:2], -1)
    gain = np.tile(gain_of(at), x.shape[2])
    return at.ops.rms_norm(flat, gain, at.config.rms_eps).reshape(x.shape)


def _after_residual(at):
    return at.ops.rms_norm(at.ops.add(at["in"], at["attn.out"]), at.vector("post_attn_norm"), at.config.rms_eps)


def _ffn_after_residual(at):
    return at.ops.rms_norm(at.ops.add(at["mid"], at["ffn.out"]), at.vector("post_ffn_norm"), at.config.rms_eps)


NORM_MUTANTS = [
    TapMutant(
        name="norm_without_plus_one",
        what="RMSNorm multiplies by the gain w instead of 1 + w.",
        needs=Needs(),
        rules=everywhere(RMS, _with_gain(lambda w: w - 1)),
    ),
    TapMutant(
        name="norm_plus_one_twice",
        what="1 is added to gains that have it already, as GGUF files do.",
        needs=Needs(),
        rules=everywhere(RMS, _with_gain(lambda w: w + 1)),
    ),
    TapMutant(
        name="norm_eps_1e-5",
        what="RMSNorm's epsilon is 1e-5 instead of 1e-6.",
        needs=Needs(note="rows whose mean square is as small as 1e-4, as of the first layers"),
        rules=everywhere(RMS, lambda at: at.ops.rms_norm(norm_input(at), gain_of(at), 1e-5)),
        subtle=True,
    ),
    TapMutant(
        name="norm_eps_outside_root",
        what="RMSNorm adds epsilon to the root instead of under it.",
        needs=Needs(note="rows of small mean square"),
        rules=everywhere(RMS, _outside_root),
        subtle=True,
    ),
    TapMutant(
        name="norm_subtracts_mean",
        what="The row is centred first, as LayerNorm does.",
        needs=Needs(),
        rules=everywhere(RMS, _centred),
    ),
    TapMutant(
        name="norm_sum_of_squares",
        what="The sum of squares stands for their mean.",
        needs=Needs(),
        rules=everywhere(RMS, _summed),
    ),
    TapMutant(
        name="norm_variance_bfloat16",
        what="The inverse root is rounded to bfloat16 in a run of higher precision.",
        needs=Needs(float32=True),
        rules=everywhere(RMS, _rounded_variance),
        subtle=True,
        wide=True,
    ),
    TapMutant(
        name="norm_gain_bfloat16",
        what="1 + w is formed in bfloat16.",
        needs=Needs(float32=True, note="gains that bfloat16 does not hold"),
        rules=everywhere(RMS, _rounded_gain),
        subtle=True,
        wide=True,
    ),
    TapMutant(
        name="norm_rounded_before_gain",
        what="The normalised row is rounded to bfloat16 before the gain: Llama's order.",
        needs=Needs(float32=True),
        rules=everywhere(RMS, _rounded_input),
        subtle=True,
        wide=True,
    ),
    TapMutant(
        name="q_norm_missing",
        what="Queries are not normalised.",
        needs=Needs(),
        rules={LAYER + "attn.q_norm": _skip},
    ),
    TapMutant(
        name="k_norm_missing",
        what="Keys are not normalised.",
        needs=Needs(),
        rules={LAYER + "attn.k_norm": _skip},
    ),
    TapMutant(
        name="qk_norm_shared",
        what="Queries and keys are normalised with each other's gain.",
        needs=Needs(note="gains of q and k that differ"),
        rules={LAYER + "attn.q_norm": _with_field("k_norm"), LAYER + "attn.k_norm": _with_field("q_norm")},
    ),
    TapMutant(
        name="qk_norm_over_all_heads",
        what="Queries and keys are normalised over all heads together, as OLMo 2 does.",
        needs=Needs(query_heads=2),
        rules=everywhere((LAYER + "attn.q_norm", LAYER + "attn.k_norm"), _over_heads),
    ),
    TapMutant(
        name="attn_norms_swapped",
        what="The norms before and after attention have each other's gain.",
        needs=Needs(note="gains that differ"),
        rules={
            LAYER + "attn.pre_norm": _with_field("post_attn_norm"),
            LAYER + "attn.post_norm": _with_field("pre_attn_norm"),
        },
    ),
    TapMutant(
        name="ffn_norms_swapped",
        what="The norms before and after the feed-forward network have each other's gain.",
        needs=Needs(note="gains that differ"),
        rules={
            LAYER + "ffn.pre_norm": _with_field("post_ffn_norm"),
            LAYER + "ffn.post_norm": _with_field("pre_ffn_norm"),
        },
    ),
    TapMutant(
        name="post_attention_gain_before_ffn",
        what="The norm before the feed-forward network has the gain named post_attention_layernorm, as in Llama.",
        needs=Needs(note="gains that differ"),
        rules={LAYER + "ffn.pre_norm": _with_field("post_attn_norm")},
    ),
    TapMutant(
        name="post_attn_norm_missing",
        what="There is no norm after attention.",
        needs=Needs(),
        rules={LAYER + "attn.post_norm": _skip},
    ),
    TapMutant(
        name="post_ffn_norm_missing",
        what="There is no norm after the feed-forward network.",
        needs=Needs(),
        rules={LAYER + "ffn.post_norm": _skip},
    ),
    TapMutant(
        name="post_attn_norm_after_residual",
        what="The norm after attention is applied to the sum with the residual.",
        needs=Needs(),
        rules={LAYER + "attn.post_norm": _after_residual, LAYER + "mid": lambda at: at["attn.post_norm"]},
    ),
    TapMutant(
        name="post_ffn_norm_after_residual",
        what="The norm after the feed-forward network is applied to the sum.",
        needs=Needs(),
        rules={LAYER + "ffn.post_norm": _ffn_after_residual, LAYER + "out": lambda at: at["ffn.post_norm"]},
    ),
    TapMutant(
        name="pre_attn_norm_missing",
        what="Attention is given the residual stream as it is.",
        needs=Needs(),
        rules={LAYER + "attn.pre_norm": _skip},
    ),
    TapMutant(
        name="pre_ffn_norm_missing",
        what="The feed-forward network is given the residual stream as it is.",
        needs=Needs(),
        rules={LAYER + "ffn.pre_norm": _skip},
    ),
    TapMutant(
        name="final_norm_missing",
        what="Logits are formed without the final norm.",
        needs=Needs(),
        rules={"text.final_norm": _skip},
    ),
]
