"""Mistakes in RMSNorm and in which norm stands where."""

import numpy as np

from ref.emulate.text_rules import LAYER, NORMS, norm_eps, norm_input
from ref.model.taps import tap_group
from ref.mutants.base import TapMutant, everywhere
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


S91 = "GEMMA3_SPEC 9.1"
E14 = "ECOSYSTEM 1.4"
NORM_MUTANTS = [
    TapMutant(
        "norm_without_plus_one",
        "RMSNorm multiplies by the gain w instead of 1 + w.",
        f"{S91} (9); TensorRT-Model-Connect #1304",
        "any input",
        everywhere(RMS, _with_gain(lambda w: w - 1)),
    ),
    TapMutant(
        "norm_plus_one_twice",
        "1 is added to gains that have it already, as GGUF files do.",
        f"{S91} (9); {E14}, mattn/tensai #63",
        "any input",
        everywhere(RMS, _with_gain(lambda w: w + 1)),
    ),
    TapMutant(
        "norm_eps_1e-5",
        "RMSNorm's epsilon is 1e-5 instead of 1e-6.",
        f"{S91} (10); mlx-vlm #293",
        "rows whose mean square is as small as 1e-4, as of the first layers",
        everywhere(RMS, lambda at: at.ops.rms_norm(norm_input(at), gain_of(at), 1e-5)),
        True,
    ),
    TapMutant(
        "norm_eps_outside_root",
        "RMSNorm adds epsilon to the root instead of under it.",
        "golden/vectors/rms_norm.json, EpsOutsideRoot",
        "rows of small mean square",
        everywhere(RMS, _outside_root),
        True,
    ),
    TapMutant(
        "norm_subtracts_mean",
        "The row is centred first, as LayerNorm does.",
        "Ba et al. 2016 beside Zhang & Sennrich 2019",
        "any input",
        everywhere(RMS, _centred),
    ),
    TapMutant(
        "norm_sum_of_squares",
        "The sum of squares stands for their mean.",
        "L2 normalisation, as MaxText's qk norm of other models",
        "any input",
        everywhere(RMS, _summed),
    ),
    TapMutant(
        "norm_variance_bfloat16",
        "The inverse root is rounded to bfloat16 in a run of higher precision.",
        "vLLM #3653; Unsloth's list of Gemma bugs",
        "float32",
        everywhere(RMS, _rounded_variance),
        True,
        wide=True,
    ),
    TapMutant(
        "norm_gain_bfloat16",
        "1 + w is formed in bfloat16.",
        "MLX's (1 + w) in the weight's dtype; litgpt #1031",
        "float32, gains that bfloat16 does not hold",
        everywhere(RMS, _rounded_gain),
        True,
        wide=True,
    ),
    TapMutant(
        "norm_rounded_before_gain",
        "The normalised row is rounded to bfloat16 before the gain: Llama's order.",
        f"{S91} (11); transformers PR 29402",
        "float32",
        everywhere(RMS, _rounded_input),
        True,
        wide=True,
    ),
    TapMutant(
        "q_norm_missing",
        "Queries are not normalised.",
        f"{S91}; {E14}, qk-norm missing",
        "any input",
        {LAYER + "attn.q_norm": _skip},
    ),
    TapMutant(
        "k_norm_missing",
        "Keys are not normalised.",
        f"{S91}; {E14}, qk-norm missing",
        "any input",
        {LAYER + "attn.k_norm": _skip},
    ),
    TapMutant(
        "qk_norm_shared",
        "Queries and keys are normalised with each other's gain.",
        f"{E14}, shared weights",
        "gains of q and k that differ",
        {LAYER + "attn.q_norm": _with_field("k_norm"), LAYER + "attn.k_norm": _with_field("q_norm")},
    ),
    TapMutant(
        "qk_norm_over_all_heads",
        "Queries and keys are normalised over all heads together, as OLMo 2 does.",
        f"{E14}",
        "more than one head",
        everywhere((LAYER + "attn.q_norm", LAYER + "attn.k_norm"), _over_heads),
    ),
    TapMutant(
        "attn_norms_swapped",
        "The norms before and after attention have each other's gain.",
        f"{S91} (17); {E14}, pre/post swapped",
        "gains that differ",
        {
            LAYER + "attn.pre_norm": _with_field("post_attn_norm"),
            LAYER + "attn.post_norm": _with_field("pre_attn_norm"),
        },
    ),
    TapMutant(
        "ffn_norms_swapped",
        "The norms before and after the feed-forward network have each other's gain.",
        f"{S91} (17)",
        "gains that differ",
        {LAYER + "ffn.pre_norm": _with_field("post_ffn_norm"), LAYER + "ffn.post_norm": _with_field("pre_ffn_norm")},
    ),
    TapMutant(
        "post_attention_gain_before_ffn",
        "The norm before the feed-forward network has the gain named post_attention_layernorm, as in Llama.",
        f"{S91} (17); SKaiNET #763",
        "gains that differ",
        {LAYER + "ffn.pre_norm": _with_field("post_attn_norm")},
    ),
    TapMutant(
        "post_attn_norm_missing",
        "There is no norm after attention.",
        f"{S91} (17)",
        "any input",
        {LAYER + "attn.post_norm": _skip},
    ),
    TapMutant(
        "post_ffn_norm_missing",
        "There is no norm after the feed-forward network.",
        f"{S91} (17)",
        "any input",
        {LAYER + "ffn.post_norm": _skip},
    ),
    TapMutant(
        "post_attn_norm_after_residual",
        "The norm after attention is applied to the sum with the residual.",
        f"{S91} (17)",
        "any input",
        {LAYER + "attn.post_norm": _after_residual, LAYER + "mid": lambda at: at["attn.post_norm"]},
    ),
    TapMutant(
        "post_ffn_norm_after_residual",
        "The norm after the feed-forward network is applied to the sum.",
        f"{S91} (17)",
        "any input",
        {LAYER + "ffn.post_norm": _ffn_after_residual, LAYER + "out": lambda at: at["ffn.post_norm"]},
    ),
    TapMutant(
        "pre_attn_norm_missing",
        "Attention is given the residual stream as it is.",
        f"{E14}, norm placement",
        "any input",
        {LAYER + "attn.pre_norm": _skip},
    ),
    TapMutant(
        "pre_ffn_norm_missing",
        "The feed-forward network is given the residual stream as it is.",
        f"{E14}, norm placement",
        "any input",
        {LAYER + "ffn.pre_norm": _skip},
    ),
    TapMutant(
        "final_norm_missing",
        "Logits are formed without the final norm.",
        f"{E14}, norm placement",
        "any input",
        {"text.final_norm": _skip},
    ),
]
