"""Mistakes in the vision tower."""

import numpy as np

from ref.emulate.tower_rules import TOWER, VISION_NORMS, layer_norm_of
from ref.model.taps import tap_group
from ref.mutants.base import TapMutant, everywhere
from ref.mutants.ffn import gelu_erf
from ref.mutants.needs import Needs
from ref.ops.patches import split_patches

NORMS = (TOWER + "attn.pre_norm", TOWER + "ffn.pre_norm", "vision.post_norm")


def _patched(change):
    """Embed patches whose values are laid out in another order."""

    def rule(at):
        v, rows = at.vision, split_patches(at["vision.pixels"], at.vision.patch)
        squares = rows.reshape(*rows.shape[:2], v.channels, v.patch, v.patch)
        return at.ops.linear(
            np.ascontiguousarray(change(squares)).reshape(rows.shape), at.weights.patch, at.vector("patch_bias")
        )

    return {"vision.patch_embed": rule}


def _columns_first(at):
    """Patches go from top to bottom first."""
    turned = np.swapaxes(at["vision.pixels"], 2, 3)
    rows = split_patches(turned, at.vision.patch)
    squares = rows.reshape(*rows.shape[:2], at.vision.channels, at.vision.patch, at.vision.patch)
    back = np.ascontiguousarray(np.swapaxes(squares, -1, -2)).reshape(rows.shape)
    return at.ops.linear(back, at.weights.patch, at.vector("patch_bias"))


def _table_by_columns(at):
    table = (
        at.vector("position")
        .reshape(at.vision.side, at.vision.side, -1)
        .transpose(1, 0, 2)
        .reshape(at.vision.side**2, -1)
    )
    return at.ops.add(at["vision.patch_embed"], table.astype(at.ops.dtype))


def _table_late(at):
    return at.ops.add(at["vision.patch_embed"], np.roll(at.vector("position"), 1, axis=0).astype(at.ops.dtype))


def _plus_one(at):
    field = VISION_NORMS[tap_group(at.tap)][1]
    y = layer_norm_of(at)
    bias = at.vector(field + "_bias")
    return y + (y - bias) / np.where(at.vector(field) == 0, np.inf, at.vector(field))


def _unbiased(source, field):
    return lambda at: at.ops.linear(at[source].reshape(*at[source].shape[:2], -1), getattr(at.weights, field))


def _unbiased_heads(field):
    def rule(at):
        y = at.ops.linear(at["attn.pre_norm"], getattr(at.weights, field))
        return y.reshape(*y.shape[:2], at.vision.heads, -1)

    return rule


def _causal(at):
    scores = at["attn.scores"]
    P = scores.shape[-1]
    return at.ops.softmax(scores, np.broadcast_to(np.tri(P, dtype=bool), (scores.shape[0], P, P)))


def _scores(scale):
    return {TOWER + "attn.scores": lambda at: at.ops.scores(at["attn.q"], at["attn.k"], scale(at))}


TOWER_MUTANTS = [
    TapMutant(
        name="patch_channels_last",
        what="A patch's values go into the weight as [y, x, channel].",
        needs=Needs(image="that is not grey"),
        rules=_patched(lambda s: np.moveaxis(s, 2, -1)),
    ),
    TapMutant(
        name="patch_transposed",
        what="Rows and columns inside a patch are swapped.",
        needs=Needs(image="that is not symmetric"),
        rules=_patched(lambda s: np.swapaxes(s, -1, -2)),
    ),
    TapMutant(
        name="patch_bgr",
        what="Channels come as blue, green, red.",
        needs=Needs(image="that is not grey"),
        rules=_patched(lambda s: s[:, :, ::-1]),
    ),
    TapMutant(
        name="patches_by_columns",
        what="Patches go from top to bottom, then left to right.",
        needs=Needs(image="that is not symmetric"),
        rules={"vision.patch_embed": _columns_first},
    ),
    TapMutant(
        name="patch_bias_missing",
        what="The patch embedding has no bias.",
        needs=Needs(image="any"),
        rules={
            "vision.patch_embed": lambda at: at.ops.linear(
                split_patches(at["vision.pixels"], at.vision.patch), at.weights.patch
            )
        },
    ),
    TapMutant(
        name="position_by_columns",
        what="The position table is read by columns.",
        needs=Needs(image="any"),
        rules={"vision.embed": _table_by_columns},
    ),
    TapMutant(
        name="position_late",
        what="The position table is one row late, as after a CLS token.",
        needs=Needs(image="any"),
        rules={"vision.embed": _table_late},
    ),
    TapMutant(
        name="position_missing",
        what="No positions are added to the patches.",
        needs=Needs(image="any"),
        rules={"vision.embed": lambda at: at["vision.patch_embed"]},
    ),
    TapMutant(
        name="layer_norm_eps_1e-5",
        what="The tower's LayerNorm has torch's epsilon, 1e-5.",
        needs=Needs(note="rows of small variance"),
        rules=everywhere(NORMS, lambda at: layer_norm_of(at, 1e-5)),
        subtle=True,
    ),
    TapMutant(
        name="layer_norm_plus_one",
        what="1 is added to the gains of the tower's LayerNorm.",
        needs=Needs(image="any"),
        rules=everywhere(NORMS, _plus_one),
    ),
    TapMutant(
        name="vision_qkv_bias_missing",
        what="The tower's q, k and v have no bias.",
        needs=Needs(image="any"),
        rules={TOWER + f"attn.{f}": _unbiased_heads(f) for f in "qkv"},
    ),
    TapMutant(
        name="vision_out_bias_missing",
        what="The tower's output projections have no bias.",
        needs=Needs(image="any"),
        rules={TOWER + "attn.out": _unbiased("attn.mix", "attn_out"), TOWER + "ffn.out": _unbiased("ffn.act", "down")},
    ),
    TapMutant(
        name="vision_up_bias_missing",
        what="The tower's first feed-forward layer has no bias.",
        needs=Needs(image="any"),
        rules={TOWER + "ffn.up": _unbiased("ffn.pre_norm", "up")},
    ),
    TapMutant(
        name="vision_gelu_erf",
        what="The tower's GELU is the exact one.",
        needs=Needs(image="any"),
        rules={TOWER + "ffn.act": lambda at: at.ops.round(gelu_erf(at["ffn.up"]))},
        subtle=True,
    ),
    TapMutant(
        name="vision_gelu_quick",
        what="The tower's GELU is x sigmoid(1.702 x), as CLIP's.",
        needs=Needs(image="any"),
        rules={TOWER + "ffn.act": lambda at: at.ops.round(at["ffn.up"] / (1 + np.exp(-1.702 * at["ffn.up"])))},
    ),
    TapMutant(
        name="vision_scale_of_width",
        what="The tower's scores are divided by sqrt(D) instead of sqrt(D / N).",
        needs=Needs(image="any"),
        rules=_scores(lambda at: at.vision.width**-0.5),
    ),
    TapMutant(
        name="vision_scale_missing",
        what="The tower's scores are not scaled.",
        needs=Needs(image="any"),
        rules=_scores(lambda at: 1.0),
    ),
    TapMutant(
        name="vision_causal",
        what="Patches see only earlier patches.",
        needs=Needs(image="any"),
        rules={TOWER + "attn.probs": _causal},
    ),
    TapMutant(
        name="vision_residual_missing",
        what="The tower's blocks do not add what they are given.",
        needs=Needs(image="any"),
        rules={TOWER + "mid": lambda at: at["attn.out"], TOWER + "out": lambda at: at["ffn.out"]},
    ),
    TapMutant(
        name="vision_post_norm_missing",
        what="There is no LayerNorm after the tower.",
        needs=Needs(image="any"),
        rules={"vision.post_norm": lambda at: at[f"vision.layer.{at.vision.layers - 1}.out"]},
    ),
]
