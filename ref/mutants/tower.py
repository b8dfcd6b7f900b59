"""Mistakes in the vision tower and the projector."""

import numpy as np

from ref.emulate.tower_rules import TOWER, VISION_NORMS, layer_norm_of
from ref.model.taps import tap_group
from ref.mutants.base import TapMutant, everywhere
from ref.mutants.ffn import gelu_erf
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


def _consecutive(at):
    x = at["vision.post_norm"]
    return x.reshape(x.shape[0], -1, at.vision.pool**2, x.shape[-1]).mean(axis=2)


def _max_pool(at):
    x, pool, side = at["vision.post_norm"], at.vision.pool, at.vision.side
    squares = x.reshape(x.shape[0], side // pool, pool, side // pool, pool, x.shape[-1])
    return squares.max(axis=(2, 4)).reshape(x.shape[0], -1, x.shape[-1])


def _pool_first(at):
    """The tower's last norm after the pool instead of before."""
    pooled = at.ops.average_pool(at[f"vision.layer.{at.vision.layers - 1}.out"], at.vision.pool)
    return at.ops.layer_norm(pooled, at.vector("post_norm"), at.vector("post_norm_bias"), at.vision.layer_norm_eps)


def _first_row(at):
    """Only the first of the M rows is normalised."""
    x = at["vision.pool"].copy()
    x[:, :1] = at.ops.rms_norm(x[:, :1], at.vector("soft_norm"), at.vision.layer_norm_eps)
    return x


def _transposed_projection(at):
    flat = np.ascontiguousarray(at.vector("projection")).reshape(-1)
    wrong = flat.reshape(at.vector("projection").shape[1], -1).T  # its values laid out as the transpose's
    return at.ops.linear(at["vision.soft_norm"], np.ascontiguousarray(wrong.T))


def _scores(scale):
    return {TOWER + "attn.scores": lambda at: at.ops.scores(at["attn.q"], at["attn.k"], scale(at))}


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
TOWER_MUTANTS = [
    TapMutant(
        "patch_channels_last",
        "A patch's values go into the weight as [y, x, channel].",
        f"{S91} (35)",
        "an image that is not grey",
        _patched(lambda s: np.moveaxis(s, 2, -1)),
    ),
    TapMutant(
        "patch_transposed",
        "Rows and columns inside a patch are swapped.",
        f"{S91} (35)",
        "an image that is not symmetric",
        _patched(lambda s: np.swapaxes(s, -1, -2)),
    ),
    TapMutant(
        "patch_bgr",
        "Channels come as blue, green, red.",
        f"{S91} (37)",
        "an image that is not grey",
        _patched(lambda s: s[:, :, ::-1]),
    ),
    TapMutant(
        "patches_by_columns",
        "Patches go from top to bottom, then left to right.",
        f"{S91} (35)",
        "an image that is not symmetric",
        {"vision.patch_embed": _columns_first},
    ),
    TapMutant(
        "patch_bias_missing",
        "The patch embedding has no bias.",
        f"{S91} (36)",
        "any image",
        {
            "vision.patch_embed": lambda at: at.ops.linear(
                split_patches(at["vision.pixels"], at.vision.patch), at.weights.patch
            )
        },
    ),
    TapMutant(
        "position_by_columns",
        "The position table is read by columns.",
        f"{S91} (35)",
        "any image",
        {"vision.embed": _table_by_columns},
    ),
    TapMutant(
        "position_late",
        "The position table is one row late, as after a CLS token.",
        f"{E14}, CLS token",
        "any image",
        {"vision.embed": _table_late},
    ),
    TapMutant(
        "position_missing",
        "No positions are added to the patches.",
        f"{E14}",
        "any image",
        {"vision.embed": lambda at: at["vision.patch_embed"]},
    ),
    TapMutant(
        "layer_norm_eps_1e-5",
        "The tower's LayerNorm has torch's epsilon, 1e-5.",
        f"{S91} (36); mlx-vlm #293",
        "rows of small variance",
        everywhere(NORMS, lambda at: layer_norm_of(at, 1e-5)),
        True,
    ),
    TapMutant(
        "layer_norm_plus_one",
        "1 is added to the gains of the tower's LayerNorm.",
        f"{S91} (9)",
        "any image",
        everywhere(NORMS, _plus_one),
    ),
    TapMutant(
        "vision_qkv_bias_missing",
        "The tower's q, k and v have no bias.",
        f"{S91} (36)",
        "any image",
        {TOWER + f"attn.{f}": _unbiased_heads(f) for f in "qkv"},
    ),
    TapMutant(
        "vision_out_bias_missing",
        "The tower's output projections have no bias.",
        f"{S91} (36)",
        "any image",
        {TOWER + "attn.out": _unbiased("attn.mix", "attn_out"), TOWER + "ffn.out": _unbiased("ffn.act", "down")},
    ),
    TapMutant(
        "vision_up_bias_missing",
        "The tower's first feed-forward layer has no bias.",
        f"{S91} (36)",
        "any image",
        {TOWER + "ffn.up": _unbiased("ffn.pre_norm", "up")},
    ),
    TapMutant(
        "vision_gelu_erf",
        "The tower's GELU is the exact one.",
        f"{S91} (36)",
        "any image",
        {TOWER + "ffn.act": lambda at: at.ops.round(gelu_erf(at["ffn.up"]))},
        True,
    ),
    TapMutant(
        "vision_gelu_quick",
        "The tower's GELU is x sigmoid(1.702 x), as CLIP's.",
        f"{S91} (36)",
        "any image",
        {TOWER + "ffn.act": lambda at: at.ops.round(at["ffn.up"] / (1 + np.exp(-1.702 * at["ffn.up"])))},
    ),
    TapMutant(
        "vision_scale_of_width",
        "The tower's scores are divided by sqrt(D) instead of sqrt(D / N).",
        f"{S91} (13)",
        "any image",
        _scores(lambda at: at.vision.width**-0.5),
    ),
    TapMutant(
        "vision_scale_missing",
        "The tower's scores are not scaled.",
        f"{S91} (12)",
        "any image",
        _scores(lambda at: 1.0),
    ),
    TapMutant(
        "vision_causal",
        "Patches see only earlier patches.",
        "llama.cpp #12433",
        "any image",
        {TOWER + "attn.probs": _causal},
    ),
    TapMutant(
        "vision_residual_missing",
        "The tower's blocks do not add what they are given.",
        f"{E14}",
        "any image",
        {TOWER + "mid": lambda at: at["attn.out"], TOWER + "out": lambda at: at["ffn.out"]},
    ),
    TapMutant(
        "vision_post_norm_missing",
        "There is no LayerNorm after the tower.",
        f"{S91} (36)",
        "any image",
        {"vision.post_norm": lambda at: at[f"vision.layer.{at.vision.layers - 1}.out"]},
    ),
    TapMutant(
        "pool_consecutive",
        "Runs of patches are averaged instead of squares.",
        f"{S91} (33)",
        "any image",
        {"vision.pool": _consecutive},
    ),
    TapMutant(
        "pool_maximum",
        "The largest of each square is taken, not the mean.",
        f"{S91} (33)",
        "any image",
        {"vision.pool": _max_pool},
    ),
    TapMutant(
        "pool_before_post_norm",
        "Patches are averaged before the tower's last norm.",
        f"{S91} (33)",
        "any image",
        {"vision.pool": _pool_first},
    ),
    TapMutant(
        "soft_norm_first_row_only",
        "Only the first soft token of an image is normalised.",
        f"{S91} (34); gemma.cpp",
        "any image",
        {"vision.soft_norm": _first_row},
    ),
    TapMutant(
        "soft_norm_missing",
        "Soft tokens are not normalised.",
        f"{S91} (34)",
        "any image",
        {"vision.soft_norm": lambda at: at["vision.pool"]},
    ),
    TapMutant(
        "projection_transposed",
        "The projection's values are read as those of its transpose.",
        f"{S91} (34); kekzl/imp #489",
        "any image",
        {"vision.soft_tokens": _transposed_projection},
    ),
]
