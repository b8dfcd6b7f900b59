"""Mistakes planted into transformers by patching a model's instances, as a porter's code would have them.

Each is (mutant it should be named, tap it should be found at, a function that patches a model). The judged code is
the witness's own; nothing here comes from `ref.mutants`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from support.plant_attention import (
    all_seen,
    attention,
    backwards,
    causal_only,
    causal_window,
    interleaved,
    plant_heads_transposed,
    plant_positions,
    plant_scale,
    plant_tiled,
    queries_only,
    unrotated,
    window_of,
)
from support.plant_text import (
    decoder,
    from_normed,
    mlp,
    no_ffn_residual,
    no_residual,
    norm_after,
    plant_activation,
    plant_bases_swapped,
    plant_embed_scale,
    plant_eps,
    plant_factor,
    plant_scaled_head,
    plant_softcap,
)
from support.plant_vision import (
    by_columns,
    consecutive,
    maximum,
    no_bias,
    plant_features,
    plant_patch,
    plant_pool,
    plant_positions_table,
    tower_layer,
    vision,
    vision_gelu,
)
from support.planting import forward, gains, identity, layer, normed, on, shared, text, weights
from torch import nn


class Injection(NamedTuple):
    """One planted mistake."""

    mutant: str
    tap: str  # with {i} for the layer it is planted in
    plant: Callable[[Any, int], Any]  # the model, the layer; may return what takes it back
    layer: str = "local"  # which kind of layer: local, global, none; or vision
    also: tuple[str, ...] = ()  # other names that say the same of this input
    needs: str = ""  # vision, long (more tokens than the window), factor, heads (K of 2 or more)
    float32_only: bool = False  # changes no bit, or nothing beyond rounding, in bfloat16


INJECTIONS = [
    Injection(
        "norm_without_plus_one", "text.layer.{i}.attn.pre_norm", on(lambda b: b.input_layernorm, normed(lambda w: w))
    ),
    Injection(
        "norm_without_plus_one", "text.layer.{i}.attn.q_norm", on(lambda b: b.self_attn.q_norm, normed(lambda w: w))
    ),
    Injection(
        "norm_plus_one_twice",
        "text.layer.{i}.ffn.post_norm",
        on(lambda b: b.post_feedforward_layernorm, normed(lambda w: 2 + w)),
    ),
    Injection("norm_eps_1e-5", "text.layer.{i}.attn.pre_norm", plant_eps, float32_only=True),
    Injection(
        "norm_subtracts_mean",
        "text.layer.{i}.ffn.pre_norm",
        on(lambda b: b.pre_feedforward_layernorm, lambda self, f, x: f(x - x.mean(-1, keepdim=True))),
    ),
    Injection("q_norm_missing", "text.layer.{i}.attn.q_norm", on(lambda b: b.self_attn.q_norm, identity)),
    Injection("k_norm_missing", "text.layer.{i}.attn.k_norm", on(lambda b: b.self_attn.k_norm, identity)),
    Injection("qk_norm_shared", "text.layer.{i}.attn.q_norm", shared),
    Injection(
        "attn_norms_swapped", "text.layer.{i}.attn.pre_norm", gains("input_layernorm", "post_attention_layernorm")
    ),
    Injection(
        "ffn_norms_swapped",
        "text.layer.{i}.ffn.pre_norm",
        gains("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ),
    Injection(
        "post_attn_norm_missing", "text.layer.{i}.attn.post_norm", on(lambda b: b.post_attention_layernorm, identity)
    ),
    Injection(
        "post_ffn_norm_missing", "text.layer.{i}.ffn.post_norm", on(lambda b: b.post_feedforward_layernorm, identity)
    ),
    Injection("final_norm_missing", "text.final_norm", lambda m, i: forward(text(m).norm, identity), "none"),
    Injection("embed_unscaled", "text.embed", plant_embed_scale(lambda d: 1.0), "none"),
    Injection("embed_scaled_twice", "text.embed", plant_embed_scale(float), "none"),
    Injection("final_softcap", "text.logits", plant_softcap, "none"),
    Injection("head_scaled", "text.logits", plant_scaled_head, "none"),
    Injection("attn_residual_missing", "text.layer.{i}.mid", decoder(no_residual)),
    Injection("post_attn_norm_after_residual", "text.layer.{i}.attn.post_norm", decoder(norm_after)),
    Injection("residual_from_normed", "text.layer.{i}.mid", decoder(from_normed)),
    Injection("ffn_residual_missing", "text.layer.{i}.out", decoder(no_ffn_residual)),
    Injection(
        "rope_interleaved",
        "text.layer.{i}.attn.q_rope",
        lambda m, i: attention(layer(m, i).self_attn, rotate=interleaved),
    ),
    Injection(
        "rope_backwards", "text.layer.{i}.attn.q_rope", lambda m, i: attention(layer(m, i).self_attn, rotate=backwards)
    ),
    Injection(
        "rope_queries_only",
        "text.layer.{i}.attn.k_rope",
        lambda m, i: attention(layer(m, i).self_attn, rotate=queries_only),
    ),
    Injection(
        "rope_missing", "text.layer.{i}.attn.q_rope", lambda m, i: attention(layer(m, i).self_attn, rotate=unrotated)
    ),
    Injection(
        "rope_before_norm", "text.layer.{i}.attn.q_norm", lambda m, i: attention(layer(m, i).self_attn, before=True)
    ),
    Injection("rope_factor_missing", "text.layer.5.attn.q_rope", plant_factor, "none", needs="factor"),
    Injection("rope_bases_swapped", "text.layer.0.attn.q_rope", plant_bases_swapped, "none"),
    Injection("rope_positions_from_one", "text.layer.0.attn.q_rope", plant_positions(1), "none"),
    Injection(
        "scale_of_head_dim", "text.layer.{i}.attn.scores", plant_scale(lambda a: a.head_dim**-0.5), needs="scalar"
    ),
    Injection("scale_missing", "text.layer.{i}.attn.scores", plant_scale(lambda a: 1.0)),
    Injection("scale_twice", "text.layer.{i}.attn.scores", plant_scale(lambda a: a.scaling**2)),
    Injection("gqa_tiled_keys", "text.layer.{i}.attn.probs", plant_tiled, needs="heads"),
    Injection(
        "window_plus_one",
        "text.layer.{i}.attn.visible",
        lambda m, i: attention(layer(m, i).self_attn, mask=window_of(1)),
        needs="long",
    ),
    Injection(
        "window_minus_one",
        "text.layer.{i}.attn.visible",
        lambda m, i: attention(layer(m, i).self_attn, mask=window_of(-1)),
        needs="long",
    ),
    Injection(
        "window_ignored",
        "text.layer.{i}.attn.visible",
        lambda m, i: attention(layer(m, i).self_attn, mask=causal_only),
        needs="long",
    ),
    Injection(
        "no_causal",
        "text.layer.{i}.attn.visible",
        lambda m, i: attention(layer(m, i).self_attn, mask=all_seen),
        "global",
    ),
    Injection("kv_swapped", "text.layer.{i}.attn.k", weights("self_attn.k_proj", "self_attn.v_proj")),
    Injection("mix_heads_transposed", "text.layer.{i}.attn.out", plant_heads_transposed),
    Injection("gelu_erf", "text.layer.{i}.ffn.act", plant_activation(nn.GELU())),
    Injection("ffn_silu", "text.layer.{i}.ffn.act", plant_activation(nn.SiLU())),
    Injection("ffn_relu", "text.layer.{i}.ffn.act", plant_activation(nn.ReLU())),
    Injection("ffn_no_activation", "text.layer.{i}.ffn.act", plant_activation(nn.Identity())),
    Injection("gate_up_swapped", "text.layer.{i}.ffn.act", mlp(lambda s, x: s.act_fn(s.up_proj(x)) * s.gate_proj(x))),
    Injection("gate_up_projections_swapped", "text.layer.{i}.ffn.gate", weights("mlp.gate_proj", "mlp.up_proj")),
    Injection("gelu_of_product", "text.layer.{i}.ffn.act", mlp(lambda s, x: s.act_fn(s.gate_proj(x) * s.up_proj(x)))),
    Injection(
        "image_causal",
        "text.layer.{i}.attn.visible",
        lambda m, i: attention(layer(m, i).self_attn, mask=causal_window),
        needs="vision",
        also=("block_only_on_global",),
    ),
    Injection(
        "images_in_reverse_order",
        "model.merged",
        plant_features(lambda x: x[::-1] if isinstance(x, (list, tuple)) else x.flip(0)),
        "none",
        needs="vision",
    ),
    Injection(
        "norm_without_plus_one",
        "vision.soft_norm",
        lambda m, i: forward(m.model.multi_modal_projector.mm_soft_emb_norm, normed(lambda w: w)),
        "none",
        needs="vision",
    ),
    Injection(
        "soft_norm_missing",
        "vision.soft_norm",
        lambda m, i: forward(m.model.multi_modal_projector.mm_soft_emb_norm, identity),
        "none",
        needs="vision",
    ),
    Injection("pool_consecutive", "vision.pool", plant_pool(consecutive), "none", needs="vision"),
    Injection("pool_maximum", "vision.pool", plant_pool(maximum), "none", needs="vision"),
    Injection("patch_bgr", "vision.patch_embed", plant_patch(lambda w: w.flip(1)), "none", needs="vision"),
    Injection(
        "patch_transposed", "vision.patch_embed", plant_patch(lambda w: w.transpose(2, 3)), "none", needs="vision"
    ),
    Injection("position_by_columns", "vision.embed", plant_positions_table(by_columns), "none", needs="vision"),
    Injection("vision_qkv_bias_missing", "vision.layer.{i}.attn.q", tower_layer(no_bias), "vision", needs="vision"),
    Injection("vision_gelu_erf", "vision.layer.{i}.ffn.act", tower_layer(vision_gelu), "vision", needs="vision"),
    Injection(
        "vision_post_norm_missing",
        "vision.post_norm",
        lambda m, i: forward(vision(m).post_layernorm, identity),
        "none",
        needs="vision",
    ),
]


def place(injection: Injection, config) -> int:
    """Return the layer that a mistake is planted in: not the first, so that finding it means something."""
    every = config.global_every if config.layers >= config.global_every else config.layers + 1
    return {"global": every - 1, "vision": 1}.get(injection.layer, 3)
