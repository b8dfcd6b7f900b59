"""Mistakes in the rotary embedding: pairs, bases, factor, positions."""

import numpy as np

from ref.emulate.context import Context
from ref.emulate.text_rules import LAYER, NORMS
from ref.model.taps import row_of
from ref.mutants.base import TapMutant, everywhere
from ref.mutants.needs import Needs
from ref.ops.rounding import bfloat16_values

ROPE = (LAYER + "attn.q_rope", LAYER + "attn.k_rope")


def unrotated(at: Context) -> np.ndarray:
    """Return what a tap of `ROPE` is the rotation of."""
    return at[row_of(at.tap).inputs[0]]


def turned(at: Context, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Rotate by other cosines and sines, [B, T, H/2]."""
    return at.ops.rotate(unrotated(at), cos, sin)


def _interleaved(at):
    cos, sin = (t[:, :, None] for t in at.places())
    x = unrotated(at)
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = even * cos - odd * sin, odd * cos + even * sin
    return at.ops.round(out)


def _swapped(at):
    local, other = at.config.rope_base_local, at.config.rope_base_global
    return turned(at, *at.places(base=local if at.config.is_global(at.layer) else other))


def _factor_everywhere(at):
    return turned(at, *at.places(factor=at.config.rope_factor if at.config.rope_factor != 1 else 8.0))


def _shifted(by):
    return lambda at: turned(at, *at.places(positions=at.one_pass.positions + by))


def _coarse(at):
    rounded = bfloat16_values(np.maximum(at.one_pass.positions, 0).astype(np.float32))
    return turned(at, *at.places(positions=rounded))


def _restart(at):
    """Positions of a cached pass begin at 0 again; of a first pass there is no difference."""
    return turned(at, *at.places(positions=np.maximum(at.one_pass.positions - at.one_pass.cached, 0)))


def _ring(at):
    """Positions are those of slots in a ring of W."""
    return turned(at, *at.places(positions=at.one_pass.positions % at.config.window))


def _with_pads(at):
    return turned(at, *at.places(positions=at.one_pass.cached + np.arange(at.one_pass.ids.shape[1])[None]))


def _backwards(at):
    cos, sin = at.places()
    return turned(at, cos, -sin)


def _angles(at, exponent):
    """Rotate by positions times base ** -exponent(j)."""
    base, factor = at.config.rope(at.layer)
    j = np.arange(at.config.head_dim // 2)
    angle = np.maximum(at.one_pass.positions, 0)[..., None] / (factor * base ** exponent(j, at.config.head_dim))
    return turned(at, np.cos(angle).astype(at.ops.dtype), np.sin(angle).astype(at.ops.dtype))


def _half(at):
    """Only the first half of the pairs is rotated."""
    cos, sin = (t.copy() for t in at.places())
    cos[..., cos.shape[-1] // 2 :], sin[..., sin.shape[-1] // 2 :] = 1, 0
    return turned(at, cos, sin)


def _before_norm(at):
    x = at["attn.q" if at.tap.endswith("q_norm") else "attn.k"]
    return at.ops.rms_norm(
        at.ops.rotate(x, *at.places()), at.vector(NORMS[LAYER + at.tap.split(".", 3)[3]][1]), at.config.rms_eps
    )


ROTATION_MUTANTS = [
    TapMutant(
        name="rope_interleaved",
        what="RoPE pairs channels 2j and 2j + 1 instead of j and j + H/2.",
        needs=Needs(position=1),
        rules=everywhere(ROPE, _interleaved),
    ),
    TapMutant(
        name="rope_bases_swapped",
        what="Local layers have the base of global ones, and the reverse.",
        needs=Needs(position=2),
        rules=everywhere(ROPE, _swapped),
    ),
    TapMutant(
        name="rope_local_base_everywhere",
        what="Every layer has the base 10,000.",
        needs=Needs(position=2, global_layer=True),
        rules=everywhere(ROPE, lambda at: turned(at, *at.places(base=1e4))),
    ),
    TapMutant(
        name="rope_global_base_everywhere",
        what="Every layer has the base 1,000,000.",
        needs=Needs(position=2, local_layer=True),
        rules=everywhere(ROPE, lambda at: turned(at, *at.places(base=1e6))),
    ),
    TapMutant(
        name="rope_factor_missing",
        what="Global layers' angles are not divided by 8.",
        needs=Needs(sizes=("4B", "12B", "27B"), global_layer=True),
        rules=everywhere(ROPE, lambda at: turned(at, *at.places(factor=1.0))),
    ),
    TapMutant(
        name="rope_factor_everywhere",
        what="Angles are divided by 8 in local layers too, or in models without the factor.",
        needs=Needs(position=2),
        rules=everywhere(ROPE, _factor_everywhere),
    ),
    TapMutant(
        name="rope_factor_inverse",
        what="Angles are multiplied by 8.",
        needs=Needs(position=2),
        rules=everywhere(ROPE, lambda at: turned(at, *at.places(factor=1 / 8))),
    ),
    TapMutant(
        name="rope_positions_from_one",
        what="Positions start at 1.",
        needs=Needs(note="any input; scores do not change, since only differences of positions count"),
        rules=everywhere(ROPE, _shifted(1)),
    ),
    TapMutant(
        name="rope_positions_late",
        what="Positions lag by one.",
        needs=Needs(position=1),
        rules=everywhere(ROPE, _shifted(-1)),
    ),
    TapMutant(
        name="rope_positions_bfloat16",
        what="Positions are rounded to bfloat16: wrong from 257 on.",
        needs=Needs(tokens=258),
        rules=everywhere(ROPE, _coarse),
    ),
    TapMutant(
        name="rope_positions_restart",
        what="Positions of a cached pass begin at 0 again.",
        needs=Needs(cached=True),
        rules=everywhere(ROPE, _restart),
    ),
    TapMutant(
        name="rope_positions_of_ring",
        what="Positions are slots of the ring: they start anew after W keys.",
        needs=Needs(windows=1),
        rules=everywhere(ROPE, _ring),
    ),
    TapMutant(
        name="rope_positions_count_pads",
        what="Positions count left pads, or do not restart in packed prompts.",
        needs=Needs(left_pads=True, packed=True),
        rules=everywhere(ROPE, _with_pads),
    ),
    TapMutant(
        name="rope_backwards",
        what="The sign of the sine is wrong.",
        needs=Needs(position=1),
        rules=everywhere(ROPE, _backwards),
    ),
    TapMutant(
        name="rope_missing",
        what="Queries and keys are not rotated.",
        needs=Needs(position=1),
        rules=everywhere(ROPE, unrotated),
    ),
    TapMutant(
        name="rope_queries_only",
        what="Keys are not rotated, or are cached before they are.",
        needs=Needs(position=1),
        rules={LAYER + "attn.k_rope": unrotated},
    ),
    TapMutant(
        name="rope_exponent_half",
        what="The exponent is j/H instead of 2j/H.",
        needs=Needs(position=1),
        rules=everywhere(ROPE, lambda at: _angles(at, lambda j, H: j / H)),
    ),
    TapMutant(
        name="rope_exponent_shifted",
        what="Pairs are counted from 1: the exponent is 2(j + 1)/H.",
        needs=Needs(position=1),
        rules=everywhere(ROPE, lambda at: _angles(at, lambda j, H: 2 * (j + 1) / H)),
    ),
    TapMutant(
        name="rope_half_of_pairs",
        what="Only half of the channels are rotated, as with a partial rotary factor.",
        needs=Needs(position=1),
        rules=everywhere(ROPE, _half),
    ),
    TapMutant(
        name="rope_before_norm",
        what="Queries and keys are rotated before their norm.",
        needs=Needs(note="gains that vary inside a pair"),
        rules=everywhere((LAYER + "attn.q_norm", LAYER + "attn.k_norm"), _before_norm) | everywhere(ROPE, unrotated),
    ),
]
