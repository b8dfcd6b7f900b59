"""Orders of the axes of the witness: the same mathematics, summed in another order."""

from typing import NamedTuple

import torch
import witness_vision
from witness import text_of


class Orders(NamedTuple):
    """Orders of the axes that a model is summed over; any will do, as long as all its weights agree."""

    hidden: torch.Tensor  # [D]
    inner: list[torch.Tensor]  # [F] of each layer
    rotated: torch.Tensor  # [H] of queries and keys: rotated pairs stay pairs
    value: torch.Tensor  # [H] of values
    vision: witness_vision.VisionOrders | None

    def inverse(self):
        """Return the orders that undo these."""
        undo = torch.argsort
        vision = self.vision.inverse() if self.vision else None
        return Orders(undo(self.hidden), [undo(f) for f in self.inner], undo(self.rotated), undo(self.value), vision)


def draw_orders(config, seed):
    """Draw orders for a configuration."""
    c, rng = config.get_text_config(), torch.Generator().manual_seed(seed)
    pair = torch.randperm(c.head_dim // 2, generator=rng)
    inner = [torch.randperm(c.intermediate_size, generator=rng) for _ in range(c.num_hidden_layers)]
    rotated = torch.cat([pair, pair + c.head_dim // 2])
    value = torch.randperm(c.head_dim, generator=rng)
    hidden = torch.randperm(c.hidden_size, generator=rng)
    vision = witness_vision.draw_orders(config.vision_config, rng) if c is not config else None
    return Orders(hidden, inner, rotated, value, vision)


def _by_head(weight, order):
    """Reorder the rows of a projection inside each head."""
    return weight.reshape(-1, len(order), weight.shape[-1])[:, order].reshape(weight.shape)


@torch.no_grad()
def permute(model, orders):
    """Reorder a model's axes in place: the same mathematics, summed in another order."""
    hidden, inner, rotated, value, vision = orders
    text = text_of(model)
    if vision:
        witness_vision.permute(model, vision, hidden)
    text.embed_tokens.weight[:] = text.embed_tokens.weight[:, hidden]
    text.norm.weight[:] = text.norm.weight[hidden]
    for kind in set(model.config.get_text_config().layer_types):
        frequency = getattr(text.rotary_emb, f"{kind}_inv_freq")
        frequency[:] = frequency[rotated[: len(frequency)]]
    for layer, order in zip(text.layers, inner, strict=True):
        attn, mlp = layer.self_attn, layer.mlp
        for norm in (layer.input_layernorm, layer.post_attention_layernorm,
                     layer.pre_feedforward_layernorm, layer.post_feedforward_layernorm):  # fmt: skip
            norm.weight[:] = norm.weight[hidden]
        for norm in (attn.q_norm, attn.k_norm):
            norm.weight[:] = norm.weight[rotated]
        for proj, in_head in ((attn.q_proj, rotated), (attn.k_proj, rotated), (attn.v_proj, value)):
            proj.weight[:] = _by_head(proj.weight[:, hidden], in_head)
        attn.o_proj.weight[:] = _by_head(attn.o_proj.weight[hidden].T, value).T
        for proj in (mlp.gate_proj, mlp.up_proj):
            proj.weight[:] = proj.weight[order][:, hidden]
        mlp.down_proj.weight[:] = mlp.down_proj.weight[hidden][:, order]


def unpermuted(name, x, orders):
    """Put a tapped value of a permuted model back into the original order of channels."""
    undo, last = orders.inverse(), name.split(".", 3)[-1]
    if name.startswith("vision."):
        return witness_vision.unpermuted(name, x, orders.vision, undo.hidden)
    if last in ("ffn.gate", "ffn.up", "ffn.act"):
        return x[..., undo.inner[int(name.split(".")[2])]]
    if last in ("attn.q", "attn.k", "attn.q_norm", "attn.k_norm", "attn.q_rope", "attn.k_rope", "cache.k"):
        return x[..., undo.rotated]
    if last in ("attn.v", "attn.mix", "cache.v"):
        return x[..., undo.value]
    if last in ("attn.scores", "attn.probs", "attn.seen") or name == "text.logits":
        return x
    return x[..., undo.hidden]
