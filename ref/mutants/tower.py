"""Mistakes in the vision tower and the projector."""

import numpy as np

from ref.emulate.graph import VISION_NORMS, V, layer_norm_of
from ref.model.taps import tap_group
from ref.mutants.base import TapMutant, everywhere
from ref.mutants.ffn import gelu_erf
from ref.ops.patches import split_patches

NORMS = (V + "attn.pre_norm", V + "ffn.pre_norm", "vision.post_norm")


def _patched(change):
    """Embed patches whose values are laid out in another order."""

    def rule(c):
        v, rows = c.v, split_patches(c["vision.pixels"], c.v.patch)
        squares = rows.reshape(*rows.shape[:2], v.channels, v.patch, v.patch)
        return c.a.linear(np.ascontiguousarray(change(squares)).reshape(rows.shape), c.p.patch, c.w("patch_bias"))

    return {"vision.patch_embed": rule}


def _columns_first(c):
    """Patches go from top to bottom first."""
    turned = np.swapaxes(c["vision.pixels"], 2, 3)
    rows = split_patches(turned, c.v.patch)
    squares = rows.reshape(*rows.shape[:2], c.v.channels, c.v.patch, c.v.patch)
    back = np.ascontiguousarray(np.swapaxes(squares, -1, -2)).reshape(rows.shape)
    return c.a.linear(back, c.p.patch, c.w("patch_bias"))


def _table_by_columns(c):
    table = c.w("position").reshape(c.v.side, c.v.side, -1).transpose(1, 0, 2).reshape(c.v.side**2, -1)
    return c.a.add(c["vision.patch_embed"], table.astype(c.a.dtype))


def _table_late(c):
    return c.a.add(c["vision.patch_embed"], np.roll(c.w("position"), 1, axis=0).astype(c.a.dtype))


def _plus_one(c):
    field = VISION_NORMS[tap_group(c.tap)][1]
    y = layer_norm_of(c)
    bias = c.w(field + "_bias")
    return y + (y - bias) / np.where(c.w(field) == 0, np.inf, c.w(field))


def _unbiased(source, field):
    return lambda c: c.a.linear(c[source].reshape(*c[source].shape[:2], -1), getattr(c.p, field))


def _unbiased_heads(field):
    def rule(c):
        y = c.a.linear(c["attn.pre_norm"], getattr(c.p, field))
        return y.reshape(*y.shape[:2], c.v.heads, -1)

    return rule


def _causal(c):
    scores = c["attn.scores"]
    P = scores.shape[-1]
    return c.a.softmax(scores, np.broadcast_to(np.tri(P, dtype=bool), (scores.shape[0], P, P)))


def _consecutive(c):
    x = c["vision.post_norm"]
    return x.reshape(x.shape[0], -1, c.v.pool**2, x.shape[-1]).mean(axis=2)


def _max_pool(c):
    x, pool, side = c["vision.post_norm"], c.v.pool, c.v.side
    squares = x.reshape(x.shape[0], side // pool, pool, side // pool, pool, x.shape[-1])
    return squares.max(axis=(2, 4)).reshape(x.shape[0], -1, x.shape[-1])


def _pool_first(c):
    """The tower's last norm after the pool instead of before."""
    pooled = c.a.average_pool(c[f"vision.layer.{c.v.layers - 1}.out"], c.v.pool)
    return c.a.layer_norm(pooled, c.w("post_norm"), c.w("post_norm_bias"), c.v.layer_norm_eps)


def _first_row(c):
    """Only the first of the M rows is normalised."""
    x = c["vision.pool"].copy()
    x[:, :1] = c.a.rms_norm(x[:, :1], c.w("soft_norm"), c.v.layer_norm_eps)
    return x


def _transposed_projection(c):
    flat = np.ascontiguousarray(c.w("projection")).reshape(-1)
    wrong = flat.reshape(c.w("projection").shape[1], -1).T  # its values laid out as the transpose's
    return c.a.linear(c["vision.soft_norm"], np.ascontiguousarray(wrong.T))


def _scores(scale):
    return {V + "attn.scores": lambda c: c.a.scores(c["attn.q"], c["attn.k"], scale(c))}


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
# fmt: off
TOWER_MUTANTS = [
    TapMutant("patch_channels_last", "A patch's values go into the weight as [y, x, channel].", f"{S91} (35)",
              "an image that is not grey", _patched(lambda s: np.moveaxis(s, 2, -1))),
    TapMutant("patch_transposed", "Rows and columns inside a patch are swapped.", f"{S91} (35)",
              "an image that is not symmetric", _patched(lambda s: np.swapaxes(s, -1, -2))),
    TapMutant("patch_bgr", "Channels come as blue, green, red.", f"{S91} (37)", "an image that is not grey",
              _patched(lambda s: s[:, :, ::-1])),
    TapMutant("patches_by_columns", "Patches go from top to bottom, then left to right.", f"{S91} (35)",
              "an image that is not symmetric", {"vision.patch_embed": _columns_first}),
    TapMutant("patch_bias_missing", "The patch embedding has no bias.", f"{S91} (36)", "any image",
              {"vision.patch_embed": lambda c: c.a.linear(split_patches(c["vision.pixels"], c.v.patch), c.p.patch)}),
    TapMutant("position_by_columns", "The position table is read by columns.", f"{S91} (35)", "any image",
              {"vision.embed": _table_by_columns}),
    TapMutant("position_late", "The position table is one row late, as after a CLS token.", f"{E14}, CLS token",
              "any image", {"vision.embed": _table_late}),
    TapMutant("position_missing", "No positions are added to the patches.", f"{E14}", "any image",
              {"vision.embed": lambda c: c["vision.patch_embed"]}),
    TapMutant("layer_norm_eps_1e-5", "The tower's LayerNorm has torch's epsilon, 1e-5.", f"{S91} (36); mlx-vlm #293",
              "rows of small variance", everywhere(NORMS, lambda c: layer_norm_of(c, 1e-5)), True),
    TapMutant("layer_norm_plus_one", "1 is added to the gains of the tower's LayerNorm.", f"{S91} (9)", "any image",
              everywhere(NORMS, _plus_one)),
    TapMutant("vision_qkv_bias_missing", "The tower's q, k and v have no bias.", f"{S91} (36)", "any image",
              {V + f"attn.{f}": _unbiased_heads(f) for f in "qkv"}),
    TapMutant("vision_out_bias_missing", "The tower's output projections have no bias.", f"{S91} (36)", "any image",
              {V + "attn.out": _unbiased("attn.mix", "attn_out"), V + "ffn.out": _unbiased("ffn.act", "down")}),
    TapMutant("vision_up_bias_missing", "The tower's first feed-forward layer has no bias.", f"{S91} (36)", "any image",
              {V + "ffn.up": _unbiased("ffn.pre_norm", "up")}),
    TapMutant("vision_gelu_erf", "The tower's GELU is the exact one.", f"{S91} (36)", "any image",
              {V + "ffn.act": lambda c: c.a.round(gelu_erf(c["ffn.up"]))}, True),
    TapMutant("vision_gelu_quick", "The tower's GELU is x sigmoid(1.702 x), as CLIP's.", f"{S91} (36)", "any image",
              {V + "ffn.act": lambda c: c.a.round(c["ffn.up"] / (1 + np.exp(-1.702 * c["ffn.up"])))}),
    TapMutant("vision_scale_of_width", "The tower's scores are divided by sqrt(D) instead of sqrt(D / N).",
              f"{S91} (13)", "any image", _scores(lambda c: c.v.width**-0.5)),
    TapMutant("vision_scale_missing", "The tower's scores are not scaled.", f"{S91} (12)", "any image",
              _scores(lambda c: 1.0)),
    TapMutant("vision_causal", "Patches see only earlier patches.", "llama.cpp #12433", "any image",
              {V + "attn.probs": _causal}),
    TapMutant("vision_residual_missing", "The tower's blocks do not add what they are given.", f"{E14}", "any image",
              {V + "mid": lambda c: c["attn.out"], V + "out": lambda c: c["ffn.out"]}),
    TapMutant("vision_post_norm_missing", "There is no LayerNorm after the tower.", f"{S91} (36)", "any image",
              {"vision.post_norm": lambda c: c[f"vision.layer.{c.v.layers - 1}.out"]}),
    TapMutant("pool_consecutive", "Runs of patches are averaged instead of squares.", f"{S91} (33)", "any image",
              {"vision.pool": _consecutive}),
    TapMutant("pool_maximum", "The largest of each square is taken, not the mean.", f"{S91} (33)", "any image",
              {"vision.pool": _max_pool}),
    TapMutant("pool_before_post_norm", "Patches are averaged before the tower's last norm.", f"{S91} (33)", "any image",
              {"vision.pool": _pool_first}),
    TapMutant("soft_norm_first_row_only", "Only the first soft token of an image is normalised.",
              f"{S91} (34); gemma.cpp", "any image", {"vision.soft_norm": _first_row}),
    TapMutant("soft_norm_missing", "Soft tokens are not normalised.", f"{S91} (34)", "any image",
              {"vision.soft_norm": lambda c: c["vision.pool"]}),
    TapMutant("projection_transposed", "The projection's values are read as those of its transpose.",
              f"{S91} (34); kekzl/imp #489", "any image", {"vision.soft_tokens": _transposed_projection}),
]
# fmt: on
