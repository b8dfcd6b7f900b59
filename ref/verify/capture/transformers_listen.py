"""Listening to a transformers model: module hooks, and the attention functions wrapped where they are called.

What attention is given is read at the call, so that a layer whose forward was replaced is heard as it is: a wrapped
rotation would miss it. Logits are the model's output: a hook on `lm_head` would miss what comes after.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

INPUTS = ("hidden_states", "inputs_embeds", "pixel_values", "input")  # what a module's main input may be called
Report = Callable[[str, Any], None]  # a tap and its tensor, [B, ...]


def text_of(model) -> Any:
    """Return the text model, whether or not it stands beside a vision tower."""
    inner = getattr(model, "model", model)
    return getattr(inner, "language_model", inner)


def tower_of(model) -> Any:
    """Return the vision tower, without the inner level of older versions; None where there is none."""
    tower = getattr(getattr(model, "model", model), "vision_tower", None)
    return getattr(tower, "vision_model", tower)


@contextmanager
def listening(model, report: Report, wants: Callable[[str], bool]) -> Iterator[None]:
    """Report every tap of a model's passes while the context lasts; nothing is changed, and all is restored after it.

    Args:
        model: Gemma3ForCausalLM or Gemma3ForConditionalGeneration, patched or not.
        report: told of each value.
        wants: whether anybody wants a tap; scores are not formed otherwise.
    """
    prefixes = {id(layer.self_attn): f"text.layer.{i}." for i, layer in enumerate(text_of(model).layers)}
    tower = tower_of(model)
    if tower is not None:
        prefixes |= {id(layer.self_attn): f"vision.layer.{i}." for i, layer in enumerate(tower.encoder.layers)}
    hooks: list[Any] = []
    with ExitStack() as stack:
        stack.callback(lambda: [hook.remove() for hook in hooks])
        hooks += _text_hooks(model, report)
        if tower is not None:
            hooks += _vision_hooks(model, report)
        for change in _attention_patches(model, _Attention(prefixes, report, wants)):
            stack.enter_context(change)
        yield


def _output(module, name, report, shape=None) -> Any:
    def hook(_module, _args, out):
        value = out[0] if isinstance(out, tuple) else out
        value = getattr(value, "last_hidden_state", value)
        report(name, value if shape is None else shape(value))

    return module.register_forward_hook(hook)


def _input(module, name, report, shape=None) -> Any:
    def hook(_module, args, kwargs):
        value = args[0] if args else next(kwargs[key] for key in INPUTS if kwargs.get(key) is not None)
        report(name, value if shape is None else shape(value))

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def _text_hooks(model, report: Report) -> list[Any]:
    text, hooks = text_of(model), []
    H = model.config.get_text_config().head_dim

    def heads(x):
        return x.reshape(*x.shape[:2], -1, H)

    def swapped(x):
        return x.transpose(1, 2)

    hooks.append(_output(text.embed_tokens, "text.embed", report))
    for i, layer in enumerate(text.layers):
        at, attn, mlp = f"text.layer.{i}.", layer.self_attn, layer.mlp
        hooks.append(_input(layer, at + "in", report))
        hooks += [_output(getattr(attn, f"{name}_proj"), f"{at}attn.{name}", report, heads) for name in "qkv"]
        hooks += [_output(getattr(attn, f"{name}_norm"), f"{at}attn.{name}_norm", report, swapped) for name in "qk"]
        for module, name in (
            (layer.input_layernorm, "attn.pre_norm"),
            (attn.o_proj, "attn.out"),
            (layer.post_attention_layernorm, "attn.post_norm"),
            (layer.pre_feedforward_layernorm, "ffn.pre_norm"),
            (mlp.gate_proj, "ffn.gate"),
            (mlp.up_proj, "ffn.up"),
            (mlp.down_proj, "ffn.out"),
            (layer.post_feedforward_layernorm, "ffn.post_norm"),
            (layer, "out"),
        ):
            hooks.append(_output(module, at + name, report))
        hooks.append(_input(layer.pre_feedforward_layernorm, at + "mid", report))
        hooks.append(_input(mlp.down_proj, at + "ffn.act", report))
    hooks.append(_output(text.norm, "text.final_norm", report))
    return hooks


def _vision_hooks(model, report: Report) -> list[Any]:
    tower, projector, hooks = tower_of(model), model.model.multi_modal_projector, []
    N = model.config.vision_config.num_attention_heads

    def heads(x):
        return x.reshape(*x.shape[:2], N, -1)

    hooks.append(_input(tower.embeddings, "vision.pixels", report))
    flat = lambda x: x.flatten(2).transpose(1, 2)  # noqa: E731
    hooks.append(_output(tower.embeddings.patch_embedding, "vision.patch_embed", report, flat))
    hooks.append(_output(tower.embeddings, "vision.embed", report))
    for i, layer in enumerate(tower.encoder.layers):
        at, attn = f"vision.layer.{i}.", layer.self_attn
        hooks.append(_input(layer, at + "in", report))
        hooks += [_output(getattr(attn, f"{name}_proj"), f"{at}attn.{name}", report, heads) for name in "qkv"]
        for module, name in (
            (layer.layer_norm1, "attn.pre_norm"),
            (attn.out_proj, "attn.out"),
            (layer.layer_norm2, "ffn.pre_norm"),
            (layer.mlp.fc1, "ffn.up"),
            (layer.mlp.fc2, "ffn.out"),
            (layer, "out"),
        ):
            hooks.append(_output(module, at + name, report))
        hooks.append(_input(layer.layer_norm2, at + "mid", report))
        hooks.append(_input(layer.mlp.fc2, at + "ffn.act", report))
    hooks.append(_output(tower.post_layernorm, "vision.post_norm", report))
    hooks.append(_input(projector.mm_soft_emb_norm, "vision.pool", report))
    hooks.append(_output(projector.mm_soft_emb_norm, "vision.soft_norm", report))
    hooks.append(_output(projector, "vision.soft_tokens", report))
    hooks.append(_input(text_of(model).layers[0], "model.merged", report))
    return hooks


def _attention_patches(model, attention: "_Attention") -> list[Any]:
    """List the patches that lead every call of an attention function past the listener."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    kind = type(ALL_ATTENTION_FUNCTIONS)
    patches = []
    for name in ("get_interface", "__getitem__"):
        if found := getattr(kind, name, None):
            patches.append(patch.object(kind, name, _answering(found, attention)))
    modules = {type(module).__module__ for module in model.modules() if hasattr(module, "is_causal")}
    for name in sorted(modules):
        if function := getattr(sys.modules.get(name), "eager_attention_forward", None):
            patches.append(patch.object(sys.modules[name], "eager_attention_forward", attention.heard(function)))
    return patches


def _answering(found, attention: "_Attention"):
    def answer(self, *args, **kwargs):
        return attention.heard(found(self, *args, **kwargs))

    return answer


class _Attention:
    """Wraps attention functions; a function that calls another wrapped one is heard once."""

    def __init__(self, prefixes: dict[int, str], report: Report, wants: Callable[[str], bool]):
        self.prefixes, self.report, self.wants, self.inside = prefixes, report, wants, False

    def heard(self, function):
        """Return a function that calls this one and reports what went in and came out."""

        def run(module, query, key, value, attention_mask=None, *args, **kwargs):
            prefix = self.prefixes.get(id(module))
            if self.inside or prefix is None:
                return function(module, query, key, value, attention_mask, *args, **kwargs)
            self.inside = True
            try:
                result = function(module, query, key, value, attention_mask, *args, **kwargs)
            finally:
                self.inside = False
            self.tell(prefix, module, query, key, value, attention_mask, result, kwargs.get("scaling"))
            return result

        return run

    def tell(self, prefix, module, query, key, value, mask, result, scaling) -> None:
        """Report what attention was given and gave."""
        import torch

        out, probs = result if isinstance(result, tuple) else (result, None)
        new = query.shape[2]
        if prefix.startswith("text."):
            self.report(prefix + "attn.q_rope", query.transpose(1, 2))
            self.report(prefix + "attn.k_rope", key[:, :, -new:].transpose(1, 2))
            self.report(prefix + "cache.k", key.transpose(1, 2))
            self.report(prefix + "cache.v", value.transpose(1, 2))
            causal = getattr(module, "is_causal", True) and probs is None
            self.report(prefix + "attn.visible", seen(mask, new, key.shape[2], len(query), causal))
        if probs is not None and self.wants(prefix + "attn.scores"):
            groups = query.shape[1] // key.shape[1]
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            scores = torch.matmul(query, key.repeat_interleave(groups, dim=1).transpose(2, 3)) * scale
            self.report(prefix + "attn.scores", scores)
        if probs is not None:
            self.report(prefix + "attn.probs", probs)
        self.report(prefix + "attn.mix", out)


def seen(mask, queries: int, keys: int, rows: int, causal: bool) -> Any:
    """Return what an attention function lets each query see, as [B, T, S] bool.

    Args:
        mask: what it was given: added numbers, booleans, or None.
        queries: T.
        keys: S.
        rows: B.
        causal: whether None means causal: the fused functions mask by themselves then, the eager one does not.
    """
    import torch

    if mask is None:
        full = torch.ones(queries, keys, dtype=torch.bool)
        return (full.tril() if causal and queries > 1 else full).expand(rows, queries, keys)
    mask = mask[:, 0, :, :keys] if mask.dim() == 4 else mask[..., :keys]
    open_ = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return open_.expand(rows, queries, keys)
