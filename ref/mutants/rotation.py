"""Mistakes in the rotary embedding: pairs, bases, factor, positions."""

import numpy as np

from ref.emulate.text_rules import LAYER, NORMS
from ref.mutants.base import TapMutant, everywhere
from ref.ops.rounding import bfloat16_values

ROPE = (LAYER + "attn.q_rope", LAYER + "attn.k_rope")


def _x(at):
    return at["attn.q_norm" if at.tap.endswith("q_rope") else "attn.k_norm"]


def _turn(at, *places):
    return at.ops.rotate(_x(at), *places)


def _interleaved(at):
    cos, sin = (t[:, :, None] for t in at.places())
    x = _x(at)
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = even * cos - odd * sin, odd * cos + even * sin
    return at.ops.round(out)


def _swapped(at):
    local, other = at.config.rope_base_local, at.config.rope_base_global
    return _turn(at, *at.places(base=local if at.config.is_global(at.layer) else other))


def _factor_everywhere(at):
    return _turn(at, *at.places(factor=at.config.rope_factor if at.config.rope_factor != 1 else 8.0))


def _shifted(by):
    return lambda at: _turn(at, *at.places(positions=at.one_pass.positions + by))


def _coarse(at):
    rounded = bfloat16_values(np.maximum(at.one_pass.positions, 0).astype(np.float32))
    return _turn(at, *at.places(positions=rounded))


def _restart(at):
    """Positions of a cached pass begin at 0 again; of a first pass there is no difference."""
    return _turn(at, *at.places(positions=np.maximum(at.one_pass.positions - at.one_pass.cached, 0)))


def _ring(at):
    """Positions are those of slots in a ring of W."""
    return _turn(at, *at.places(positions=at.one_pass.positions % at.config.window))


def _with_pads(at):
    return _turn(at, *at.places(positions=at.one_pass.cached + np.arange(at.one_pass.ids.shape[1])[None]))


def _backwards(at):
    cos, sin = at.places()
    return _turn(at, cos, -sin)


def _angles(at, exponent):
    """Rotate by positions times base ** -exponent(j)."""
    base, factor = at.config.rope(at.layer)
    j = np.arange(at.config.head_dim // 2)
    angle = np.maximum(at.one_pass.positions, 0)[..., None] / (factor * base ** exponent(j, at.config.head_dim))
    return _turn(at, np.cos(angle).astype(at.ops.dtype), np.sin(angle).astype(at.ops.dtype))


def _half(at):
    """Only the first half of the pairs is rotated."""
    cos, sin = (t.copy() for t in at.places())
    cos[..., cos.shape[-1] // 2 :], sin[..., sin.shape[-1] // 2 :] = 1, 0
    return _turn(at, cos, sin)


def _before_norm(at):
    x = at["attn.q" if at.tap.endswith("q_norm") else "attn.k"]
    return at.ops.rms_norm(
        at.ops.rotate(x, *at.places()), at.vector(NORMS[LAYER + at.tap.split(".", 3)[3]][1]), at.config.rms_eps
    )


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
ROTATION_MUTANTS = [
    TapMutant(
        "rope_interleaved",
        "RoPE pairs channels 2j and 2j + 1 instead of j and j + H/2.",
        f"{S91} (7)",
        "a token after the first",
        everywhere(ROPE, _interleaved),
    ),
    TapMutant(
        "rope_bases_swapped",
        "Local layers have the base of global ones, and the reverse.",
        f"{S91} (5)",
        "a few tokens",
        everywhere(ROPE, _swapped),
    ),
    TapMutant(
        "rope_local_base_everywhere",
        "Every layer has the base 10,000.",
        f"{S91} (5); candle #2917",
        "a few tokens, a global layer",
        everywhere(ROPE, lambda at: _turn(at, *at.places(base=1e4))),
    ),
    TapMutant(
        "rope_global_base_everywhere",
        "Every layer has the base 1,000,000.",
        f"{S91} (5); candle #2917",
        "a few tokens, a local layer",
        everywhere(ROPE, lambda at: _turn(at, *at.places(base=1e6))),
    ),
    TapMutant(
        "rope_factor_missing",
        "Global layers' angles are not divided by 8.",
        f"{S91} (6); mlx-vlm PR 1709",
        "4B, 12B or 27B, a global layer",
        everywhere(ROPE, lambda at: _turn(at, *at.places(factor=1.0))),
    ),
    TapMutant(
        "rope_factor_everywhere",
        "Angles are divided by 8 in local layers too, or in models without the factor.",
        f"{S91} (6); llama.cpp #14367",
        "a few tokens",
        everywhere(ROPE, _factor_everywhere),
    ),
    TapMutant(
        "rope_factor_inverse",
        "Angles are multiplied by 8.",
        f"{S91} (6)",
        "a few tokens",
        everywhere(ROPE, lambda at: _turn(at, *at.places(factor=1 / 8))),
    ),
    TapMutant(
        "rope_positions_from_one",
        "Positions start at 1.",
        f"{E14}; litgpt #1031",
        "tokens; scores do not change, since only differences of positions count",
        everywhere(ROPE, _shifted(1)),
    ),
    TapMutant("rope_positions_late", "Positions lag by one.", f"{E14}", "tokens", everywhere(ROPE, _shifted(-1))),
    TapMutant(
        "rope_positions_bfloat16",
        "Positions are rounded to bfloat16: wrong from 257 on.",
        "GEMMA3_SPEC 2.10; litgpt #1031",
        "more than 257 tokens",
        everywhere(ROPE, _coarse),
    ),
    TapMutant(
        "rope_positions_restart",
        "Positions of a cached pass begin at 0 again.",
        f"{S91} (22)",
        "a cached pass",
        everywhere(ROPE, _restart),
    ),
    TapMutant(
        "rope_positions_of_ring",
        "Positions are slots of the ring: they start anew after W keys.",
        f"{S91} (22); transformers #39711",
        "more tokens than the window",
        everywhere(ROPE, _ring),
    ),
    TapMutant(
        "rope_positions_count_pads",
        "Positions count left pads, or do not restart in packed prompts.",
        f"{S91} (22)",
        "left pads or packed prompts",
        everywhere(ROPE, _with_pads),
    ),
    TapMutant(
        "rope_backwards",
        "The sign of the sine is wrong.",
        f"{E14}",
        "a token after the first",
        everywhere(ROPE, _backwards),
    ),
    TapMutant(
        "rope_missing", "Queries and keys are not rotated.", f"{E14}", "a token after the first", everywhere(ROPE, _x)
    ),
    TapMutant(
        "rope_queries_only",
        "Keys are not rotated, or are cached before they are.",
        f"{E14}",
        "a token after the first",
        {LAYER + "attn.k_rope": _x},
    ),
    TapMutant(
        "rope_exponent_half",
        "The exponent is j/H instead of 2j/H.",
        "Su et al. 2021, equation 15",
        "a token after the first",
        everywhere(ROPE, lambda at: _angles(at, lambda j, H: j / H)),
    ),
    TapMutant(
        "rope_exponent_shifted",
        "Pairs are counted from 1: the exponent is 2(j + 1)/H.",
        "Su et al. 2021 counts from 1",
        "a token after the first",
        everywhere(ROPE, lambda at: _angles(at, lambda j, H: 2 * (j + 1) / H)),
    ),
    TapMutant(
        "rope_half_of_pairs",
        "Only half of the channels are rotated, as with a partial rotary factor.",
        "GPT-NeoX's rotary_pct; Gemma 4's partial rotary factor",
        "a token after the first",
        everywhere(ROPE, _half),
    ),
    TapMutant(
        "rope_before_norm",
        "Queries and keys are rotated before their norm.",
        f"{S91} (8)",
        "gains that vary inside a pair",
        everywhere((LAYER + "attn.q_norm", LAYER + "attn.k_norm"), _before_norm) | everywhere(ROPE, _x),
    ),
]
