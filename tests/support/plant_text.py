"""Mistakes in a layer of text or beside its layers: sums, feed-forwards, constants."""

import torch
from support.planting import forward, layer, text


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


def no_residual(self, x, pre, attn):
    mid = self.post_attention_layernorm(attn)
    return mid + feed_forward(self, mid)


def norm_after(self, x, pre, attn):
    mid = self.post_attention_layernorm(x + attn)
    return mid + feed_forward(self, mid)


def from_normed(self, x, pre, attn):
    mid = pre + self.post_attention_layernorm(attn)
    return mid + feed_forward(self, mid)


def no_ffn_residual(self, x, pre, attn):
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


def plant_embed_scale(value):
    """Set the embedding's scale."""

    def plant(model, _):
        table = text(model).embed_tokens
        table.embed_scale = torch.tensor(value(model.config.get_text_config().hidden_size)).to(table.embed_scale.dtype)

    return plant
