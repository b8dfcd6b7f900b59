"""Patching attention, weights and caches of a model of transformers, for mistakes with parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from support.plant_attention import attention
from support.planting import forward, layer, text
from transformers.models.gemma3 import modeling_gemma3 as gemma3

PROJECTIONS = {  # our name of a projection: the module in a layer of transformers
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.out": "self_attn.o_proj",
    "ffn.gate": "mlp.gate_proj",
    "ffn.up": "mlp.up_proj",
    "ffn.out": "mlp.down_proj",
}
NORMS = {
    "attn.pre_norm": "input_layernorm",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "attn.post_norm": "post_attention_layernorm",
    "ffn.pre_norm": "pre_feedforward_layernorm",
    "ffn.post_norm": "post_feedforward_layernorm",
}
Positions = Callable[[torch.Tensor], torch.Tensor]


def module_of(model: Any, i: int, tap: str) -> Any:
    """Return the module of a layer that gives a tap."""
    return layer(model, i).get_submodule((PROJECTIONS | NORMS)[tap])


def put(module: Any, weight: torch.Tensor) -> None:
    """Give a module another weight, in its own dtype."""
    module.weight.data = weight.detach().to(module.weight.dtype).contiguous()


def rotate_at(model: Any, i: int, queries: Positions | None, keys: Positions | None) -> None:
    """Rotate a layer's queries and keys at other positions; None leaves the right ones."""
    module, rotary = layer(model, i).self_attn, text(model).rotary_emb
    seen = {}

    def one(x, change, cos, sin):
        if change:
            cos, sin = rotary(x, change(seen["positions"]), module.layer_type)
        return gemma3.apply_rotary_pos_emb(x, x, cos, sin)[0]

    def run(self, original, *args, position_ids=None, **kwargs):
        seen["positions"] = position_ids
        return original(*args, position_ids=position_ids, **kwargs)

    attention(module, rotate=lambda q, k, cos, sin: (one(q, queries, cos, sin), one(k, keys, cos, sin)))
    forward(module, run)


def positions_of_kind(model: Any, change: Positions, kind: str = "") -> None:
    """Turn positions into others before every layer's angles, or before those of one kind of layer."""

    def run(self, original, x, position_ids, layer_type):
        changed = change(position_ids) if not kind or layer_type == kind else position_ids
        return original(x, changed, layer_type)

    forward(text(model).rotary_emb, run)


def attend(model: Any, i: int, function: Callable) -> Callable[[], Any]:
    """Replace the attention function for one layer: function(original, module, q, k, v, mask, **kwargs)."""
    original, module = gemma3.eager_attention_forward, layer(model, i).self_attn

    def eager_attention_forward(own, query, key, value, attention_mask, **kwargs):
        if own is not module:
            return original(own, query, key, value, attention_mask, **kwargs)
        return function(original, own, query, key, value, attention_mask, **kwargs)

    gemma3.eager_attention_forward = eager_attention_forward
    return lambda: setattr(gemma3, "eager_attention_forward", original)


def hide(model: Any, i: int, hidden: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """Hide keys from queries beside those that are hidden already: hidden(queries [T, 1], keys [1, S])."""

    def mask(self, given, queries, keys):
        q, k = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)[None]
        if given is None:
            given = torch.zeros(1, 1, queries, keys, dtype=self.o_proj.weight.dtype)
        return given.masked_fill(hidden(q, k), torch.finfo(given.dtype).min)

    attention(layer(model, i).self_attn, mask=mask)


def after(module: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change what a module returns."""
    forward(module, lambda self, original, *args, **kwargs: change(original(*args, **kwargs)))


def change_logits(model: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change the logits that a model returns."""

    def run(self, original, *args, **kwargs):
        out = original(*args, **kwargs)
        out.logits = change(out.logits)
        return out

    forward(model, run)


def change_cache(model: Any, change: Callable[[Any, int], Any]) -> None:
    """Change what the prompt left in the cache, once: change(layer of the cache, number)."""
    done = []

    def run(self, original, *args, **kwargs):
        cache = kwargs.get("cache", kwargs.get("past_key_values"))  # by version
        if cache is not None and cache.get_seq_length() and not done:
            done.append(True)
            for number, held in enumerate(cache.layers):
                change(held, number)
        return original(*args, **kwargs)

    forward(model, run)


def output_of(model: Any, module: Any, ids: Sequence[int], given: bool = False) -> torch.Tensor:
    """Run a model on ids and return what a module gave, or what it was given."""
    kept = []
    hook = module.register_forward_hook(lambda _, args, out: kept.append(args[0] if given else out))
    with torch.no_grad():
        model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    hook.remove()
    return kept[0][0] if isinstance(kept[0], tuple) else kept[0]


def by_rows(weight: torch.Tensor, order: Sequence[int], length: int) -> torch.Tensor:
    """Put blocks of `length` rows in another order: block i is what block order[i] was."""
    return weight.unflatten(0, (-1, length))[list(order)].flatten(0, 1)


def by_columns(weight: torch.Tensor, order: Sequence[int], length: int) -> torch.Tensor:
    """Put blocks of `length` columns in another order."""
    return by_rows(weight.T, order, length).T
