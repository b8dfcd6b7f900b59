"""Mistakes in attention: in its rotation, its mask, its heads, and whatever stands between."""

import types

import torch
from support.planting import forward, layer, text
from transformers.models.gemma3 import modeling_gemma3 as gemma3


def attention(module, *, rotate=None, before=None, interface=None, mask=None):
    """Replace an attention's forward: a copy of transformers' with places for mistakes."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def run(self, hidden_states, position_embeddings=None, attention_mask=None, **kwargs):
        cache = kwargs.pop("cache", kwargs.pop("past_key_values", None))  # by version
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
        if cache is not None:
            k, v = cache.update(k, v, self.layer_idx)
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
