"""Mistakes planted into transformers by patching a model's instances, as a porter's code would have them.

Each is (mutant it should be named, tap it should be found at, a function that patches a model). The judged code is
the witness's own; nothing here comes from `ref.mutants`.
"""

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.models.gemma3 import modeling_gemma3 as gemma3


class Injection(NamedTuple):
    """One planted mistake."""

    mutant: str
    tap: str  # with {i} for the layer it is planted in
    plant: Callable[[Any, int], Any]  # the model, the layer; may return what takes it back
    layer: str = "local"  # which kind of layer: local, global, none; or vision
    also: tuple[str, ...] = ()  # other names that say the same of this input
    needs: str = ""  # vision, long (more tokens than the window), factor, heads (K of 2 or more)
    float32_only: bool = False  # changes no bit, or nothing beyond rounding, in bfloat16


def text(model):
    """Return the text model."""
    return getattr(model.model, "language_model", model.model)


def layer(model, i):
    """Return a decoder layer."""
    return text(model).layers[i]


def forward(module, function):
    """Replace the forward of one module by function(module, original, *args, **kwargs)."""
    original = module.forward

    def new(self, *args, **kwargs):
        return function(self, original, *args, **kwargs)

    module.forward = types.MethodType(new, module)


def normed(change):
    """Make a norm's forward whose gain is changed."""

    def run(self, original, x):
        return (self._norm(x.float()) * change(self.weight.float())).type_as(x)

    return run


def identity(self, original, x, *args, **kwargs):
    """Return what came in."""
    return x


def swap(a, name_a, b, name_b):
    """Exchange two submodules."""
    one, other = getattr(a, name_a), getattr(b, name_b)
    setattr(a, name_a, other)
    setattr(b, name_b, one)


def attention(module, *, rotate=None, before=None, interface=None, mask=None):
    """Replace an attention's forward: a copy of transformers' with places for mistakes."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def run(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        q = self.q_proj(hidden_states).view(shape).transpose(1, 2)
        k = self.k_proj(hidden_states).view(shape).transpose(1, 2)
        v = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        cos, sin = position_embeddings
        turn = rotate or gemma3.apply_rotary_pos_emb
        if before:
            q, k = turn(q, k, cos, sin)
        q, k = self.q_norm(q), self.k_norm(k)
        if not before:
            q, k = turn(q, k, cos, sin)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, gemma3.eager_attention_forward)
        if mask is not None:
            attention_mask = mask(self, attention_mask, q.shape[2], k.shape[2])
        if interface is not None:
            q, k, v, attention_mask = interface(self, q, k, v, attention_mask)
        out, weights = attend(self, q, k, v, attention_mask, scaling=self.scaling, **kwargs)
        return self.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), weights

    module.forward = types.MethodType(run, module)


def interleaved(q, k, cos, sin):
    """Rotate neighbours."""

    def one(x):
        half = cos.shape[-1] // 2
        c, s = cos[:, None, :, :half], sin[:, None, :, :half]
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * c - odd * s, odd * c + even * s], -1).flatten(-2)

    return one(q), one(k)


def backwards(q, k, cos, sin):
    """Rotate the other way."""
    return gemma3.apply_rotary_pos_emb(q, k, cos, -sin)


def queries_only(q, k, cos, sin):
    """Leave keys as they are."""
    return gemma3.apply_rotary_pos_emb(q, k, cos, sin)[0], k


def unrotated(q, k, cos, sin):
    """Rotate nothing."""
    return q, k


def additive(seen, like):
    """Turn what is seen into added numbers."""
    return torch.where(seen, 0.0, torch.finfo(like.dtype).min).to(like.dtype)[None, None]


def window_of(wider):
    """Make a mask whose window differs by so many keys."""

    def mask(self, given, queries, keys):
        q, k = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)[None]
        return additive((k <= q) & (q - k < self.sliding_window + wider), self.o_proj.weight)

    return mask


def causal_only(self, given, queries, keys):
    """Ignore the window, and blocks."""
    q, k = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)[None]
    return additive(k <= q, self.o_proj.weight)


def all_seen(self, given, queries, keys):
    """Hide nothing but what the window hides."""
    q, k = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)[None]
    seen = (q - k < self.sliding_window) if self.is_sliding else torch.ones_like(q - k, dtype=torch.bool)
    return additive(seen, self.o_proj.weight)


def causal_window(self, given, queries, keys):
    """Ignore image blocks."""
    return window_of(0)(self, given, queries, keys) if self.is_sliding else causal_only(self, given, queries, keys)


def plant_softcap(model, _):
    """Cap what the model returns."""

    def run(self, original, *args, **kwargs):
        out = original(*args, **kwargs)
        out.logits = 30 * torch.tanh(out.logits / 30)
        return out

    forward(model, run)


def plant_scaled_head(model, _):
    """Scale what the model returns."""

    def run(self, original, *args, **kwargs):
        out = original(*args, **kwargs)
        out.logits = out.logits * self.config.get_text_config().hidden_size ** 0.5
        return out

    forward(model, run)


def decoder(change):
    """Make a decoder layer's forward with another order of things."""

    def run(self, original, hidden_states, position_embeddings=None, attention_mask=None, **kwargs):
        pre = self.input_layernorm(hidden_states)
        attn, _ = self.self_attn(
            hidden_states=pre, position_embeddings=position_embeddings, attention_mask=attention_mask, **kwargs
        )
        return change(self, hidden_states, pre, attn)

    return lambda model, i: forward(layer(model, i), run)


def feed_forward(self, mid, given=None):
    """Run the second half of a layer."""
    return self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(mid if given is None else given)))


def _no_residual(self, x, pre, attn):
    mid = self.post_attention_layernorm(attn)
    return mid + feed_forward(self, mid)


def _norm_after(self, x, pre, attn):
    mid = self.post_attention_layernorm(x + attn)
    return mid + feed_forward(self, mid)


def _from_normed(self, x, pre, attn):
    mid = pre + self.post_attention_layernorm(attn)
    return mid + feed_forward(self, mid)


def _no_ffn_residual(self, x, pre, attn):
    return feed_forward(self, x + self.post_attention_layernorm(attn))


def mlp(act):
    """Replace a feed-forward network's forward."""

    def plant(model, i):
        forward(layer(model, i).mlp, lambda self, original, x: self.down_proj(act(self, x)))

    return plant


def plant_activation(function):
    """Replace the activation."""

    def plant(model, i):
        layer(model, i).mlp.act_fn = function

    return plant


def plant_eps(model, i):
    """Put torch's usual epsilon into a norm."""
    layer(model, i).input_layernorm.eps = 1e-5


def plant_factor(model, _):
    """Take the factor out of the frequencies."""
    rope = text(model).rotary_emb
    rope.full_attention_inv_freq.mul_(text(model).config.rope_parameters["full_attention"]["factor"])


def plant_bases_swapped(model, _):
    """Exchange the frequencies of the two kinds."""
    rope = text(model).rotary_emb
    one, other = rope.full_attention_inv_freq.clone(), rope.sliding_attention_inv_freq.clone()
    factor = text(model).config.rope_parameters["full_attention"].get("factor", 1.0)
    rope.full_attention_inv_freq.copy_(other / factor)
    rope.sliding_attention_inv_freq.copy_(one * factor)


def plant_positions(by):
    """Shift positions where they are turned into angles."""

    def plant(model, _):
        def run(self, original, x, position_ids, layer_type):
            return original(x, position_ids + by, layer_type)

        forward(text(model).rotary_emb, run)

    return plant


def plant_scale(value):
    """Set an attention's scale."""

    def plant(model, i):
        attn = layer(model, i).self_attn
        attn.scaling = value(attn)

    return plant


def plant_embed_scale(value):
    """Set the embedding's scale."""

    def plant(model, _):
        table = text(model).embed_tokens
        table.embed_scale = torch.tensor(value(model.config.get_text_config().hidden_size)).to(table.embed_scale.dtype)

    return plant


def plant_heads_transposed(model, i):
    """Give the output projection heads and channels in each other's order."""
    attn = layer(model, i).self_attn

    def run(self, original, x):
        heads = x.reshape(*x.shape[:2], -1, attn.head_dim)
        return original(heads.transpose(2, 3).reshape(x.shape))

    forward(attn.o_proj, run)


def plant_tiled(model, i):
    """Let query head n meet key head n mod K, inside the attention function."""
    original = gemma3.eager_attention_forward

    def tiled(module, query, key, value, attention_mask, scaling=None, **kwargs):
        if module is not layer(model, i).self_attn:
            return original(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        heads = torch.arange(query.shape[1]) % key.shape[1]
        weights = torch.matmul(query, key[:, heads].transpose(2, 3)) * scaling + attention_mask
        weights = torch.softmax(weights, -1, dtype=torch.float32).to(query.dtype)
        values = value.repeat_interleave(module.num_key_value_groups, dim=1)
        return torch.matmul(weights, values).transpose(1, 2), weights

    gemma3.eager_attention_forward = tiled
    return lambda: setattr(gemma3, "eager_attention_forward", original)


def on(module_of, function):
    """Replace the forward of the module that `module_of(layer)` finds."""
    return lambda model, i: forward(module_of(layer(model, i)), function)


def shared(model, i):
    """Give queries and keys each other's norm, whose hooks go along."""
    attn = layer(model, i).self_attn
    q, k = attn.q_norm.weight.detach().clone(), attn.k_norm.weight.detach().clone()
    attn.q_norm.weight.data, attn.k_norm.weight.data = k, q


def gains(one, other):
    """Exchange the gains of two norms of a layer."""

    def plant(model, i):
        a, b = getattr(layer(model, i), one), getattr(layer(model, i), other)
        a.weight.data, b.weight.data = b.weight.detach().clone(), a.weight.detach().clone()

    return plant


def weights(path_a, path_b):
    """Exchange the weights of two linear layers."""

    def plant(model, i):
        a, b = (layer(model, i).get_submodule(path) for path in (path_a, path_b))
        a.weight.data, b.weight.data = b.weight.detach().clone(), a.weight.detach().clone()

    return plant


def vision(model):
    """Return the tower."""
    return model.model.vision_tower


def plant_patch(change):
    """Change the weight of the patch embedding."""

    def plant(model, _):
        conv = vision(model).embeddings.patch_embedding
        conv.weight.data = change(conv.weight.detach()).contiguous()

    return plant


def plant_positions_table(change):
    """Change the position table of the tower."""

    def plant(model, _):
        table = vision(model).embeddings.position_embedding
        table.weight.data = change(table.weight.detach()).contiguous()

    return plant


def _by_columns(table):
    side = int(len(table) ** 0.5)
    return table.reshape(side, side, -1).transpose(0, 1).reshape(table.shape)


def plant_pool(pool):
    """Replace the projector's pool."""

    def plant(model, _):
        projector = model.model.multi_modal_projector

        def run(self, original, x):
            normed = self.mm_soft_emb_norm(pool(self, x))
            return torch.matmul(normed, self.mm_input_projection_weight).type_as(x)

        forward(projector, run)

    return plant


def _consecutive(self, x):
    return x.reshape(x.shape[0], -1, self.kernel_size**2, x.shape[-1]).mean(2)


def _maximum(self, x):
    square = x.transpose(1, 2).reshape(x.shape[0], x.shape[-1], self.patches_per_image, self.patches_per_image)
    return nn.functional.max_pool2d(square, self.kernel_size).flatten(2).transpose(1, 2)


def plant_features(change):
    """Change the image features where they are merged."""

    def plant(model, _):
        inner = model.model
        original = inner.get_image_features

        def run(self, *args, **kwargs):
            out = original(*args, **kwargs)
            out.pooler_output = change(out.pooler_output)
            return out

        inner.get_image_features = types.MethodType(run, inner)

    return plant


def _tower_layer(change):
    def plant(model, i):
        change(vision(model).encoder.layers[i])

    return plant


def _no_bias(block):
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(block.self_attn, name).bias.data.zero_()


def _vision_gelu(block):
    block.mlp.activation_fn = nn.GELU()


N, A, M = "input_layernorm", "self_attn", "mlp"
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
    Injection("attn_residual_missing", "text.layer.{i}.mid", decoder(_no_residual)),
    Injection("post_attn_norm_after_residual", "text.layer.{i}.attn.post_norm", decoder(_norm_after)),
    Injection("residual_from_normed", "text.layer.{i}.mid", decoder(_from_normed)),
    Injection("ffn_residual_missing", "text.layer.{i}.out", decoder(_no_ffn_residual)),
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
    Injection("pool_consecutive", "vision.pool", plant_pool(_consecutive), "none", needs="vision"),
    Injection("pool_maximum", "vision.pool", plant_pool(_maximum), "none", needs="vision"),
    Injection("patch_bgr", "vision.patch_embed", plant_patch(lambda w: w.flip(1)), "none", needs="vision"),
    Injection(
        "patch_transposed", "vision.patch_embed", plant_patch(lambda w: w.transpose(2, 3)), "none", needs="vision"
    ),
    Injection("position_by_columns", "vision.embed", plant_positions_table(_by_columns), "none", needs="vision"),
    Injection("vision_qkv_bias_missing", "vision.layer.{i}.attn.q", _tower_layer(_no_bias), "vision", needs="vision"),
    Injection("vision_gelu_erf", "vision.layer.{i}.ffn.act", _tower_layer(_vision_gelu), "vision", needs="vision"),
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
