"""Rules of the vision tower and the projector: how each of their taps is made from others."""

import numpy as np

from ref.emulate.context import Context, Rule, join_heads, split_heads
from ref.emulate.one_pass import Unknown
from ref.model.taps import tap_group
from ref.ops.patches import split_patches

TOWER = "vision.layer.*."


def _pixels(at: Context):
    if at.one_pass.pixels is None:
        raise Unknown("the dump does not hold the pixels that went in")
    return at.one_pass.pixels.astype(at.ops.dtype)


def layer_norm_of(at: Context, eps: float | None = None) -> np.ndarray:
    """Apply the tower's LayerNorm of this tap, with another epsilon if one is given."""
    source, field = VISION_NORMS[tap_group(at.tap)]
    x = at[source] if source else _last_block(at)
    eps = at.vision.layer_norm_eps if eps is None else eps
    return at.ops.layer_norm(x, at.vector(field), at.vector(field + "_bias"), eps)


def _last_block(at: Context):
    return at[f"vision.layer.{at.vision.layers - 1}.out"]


VISION_NORMS = {
    TOWER + "attn.pre_norm": ("in", "attn_norm"),
    TOWER + "ffn.pre_norm": ("mid", "ffn_norm"),
    "vision.post_norm": ("", "post_norm"),
}


def vision_linear(at: Context, source: str, field: str) -> np.ndarray:
    """Apply a linear layer of the tower with its bias."""
    return at.ops.linear(join_heads(at[source]), getattr(at.weights, field), at.vector(field + "_bias"))


def _vision_seen(at: Context):
    images, patches = at["attn.q"].shape[:2]
    return np.ones((images, patches, patches), bool)


def vision_scale(at: Context) -> float:
    """Return what the tower's scores are multiplied by."""
    return (at.vision.width // at.vision.heads) ** -0.5


def _vision_mix(at: Context):
    if at.is_given("attn.scores") or at.is_known("attn.probs") or at.is_mutated("attn.scores", "attn.probs"):
        return at.ops.mix(at["attn.probs"], at["attn.v"])
    at.passes_through("attn.scores", "attn.probs")
    return at.ops.attend(at["attn.q"], at["attn.k"], at["attn.v"], _vision_seen(at), vision_scale(at))


def _patches(at: Context):
    return at.ops.convolve(
        split_patches(at["vision.pixels"], at.vision.patch), at.weights.patch, at.vector("patch_bias")
    )


def _block_in(at: Context):
    return at[f"vision.layer.{at.layer - 1}.out"] if at.layer else at["vision.embed"]


VISION_RULES: dict[str, Rule] = {
    "vision.pixels": _pixels,
    "vision.patch_embed": _patches,
    "vision.embed": lambda at: at.ops.add(at["vision.patch_embed"], at.vector("position").astype(at.ops.dtype)),
    TOWER + "in": _block_in,
    TOWER + "attn.q": lambda at: split_heads(vision_linear(at, "attn.pre_norm", "q"), at.vision.heads),
    TOWER + "attn.k": lambda at: split_heads(vision_linear(at, "attn.pre_norm", "k"), at.vision.heads),
    TOWER + "attn.v": lambda at: split_heads(vision_linear(at, "attn.pre_norm", "v"), at.vision.heads),
    TOWER + "attn.scores": lambda at: at.ops.scores(at["attn.q"], at["attn.k"], vision_scale(at)),
    TOWER + "attn.probs": lambda at: at.ops.softmax(at["attn.scores"], _vision_seen(at)),
    TOWER + "attn.mix": _vision_mix,
    TOWER + "attn.out": lambda at: vision_linear(at, "attn.mix", "attn_out"),
    TOWER + "mid": lambda at: at.ops.add(at["in"], at["attn.out"]),
    TOWER + "ffn.up": lambda at: vision_linear(at, "ffn.pre_norm", "up"),
    TOWER + "ffn.act": lambda at: at.ops.gelu(at["ffn.up"]),
    TOWER + "ffn.out": lambda at: vision_linear(at, "ffn.act", "down"),
    TOWER + "out": lambda at: at.ops.add(at["mid"], at["ffn.out"]),
    "vision.pool": lambda at: at.ops.average_pool(at["vision.post_norm"], at.vision.pool),
    "vision.soft_tokens": lambda at: at.ops.linear(
        at["vision.soft_norm"], np.ascontiguousarray(at.vector("projection").T)
    ),
    **dict.fromkeys(VISION_NORMS, layer_norm_of),
}
