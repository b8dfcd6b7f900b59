"""Which of transformers' modules gives which tap, and the hooks that listen to them."""

from collections import defaultdict
from contextlib import ExitStack
from typing import Any

from ref.capture.transformers.listen import AS_IS, FLAT, GRID, Listener
from ref.capture.transformers.model import text_model, vision_tower
from ref.capture.transformers.wrapped import untraced, unwrapped

IN, OUT = "in", "out"  # a module's input or its output
HEADS = "as given"  # the axes of a norm over heads: as its input's, which the listener tells
# (place in the layer, side, tap, its axes there) in the order of execution. What attention sees is in
# transformers_attention.
LAYER = (
    ("", IN, "in"),
    ("input_layernorm", OUT, "attn.pre_norm"),
    ("self_attn.q_proj", OUT, "attn.q", FLAT),
    ("self_attn.k_proj", OUT, "attn.k", FLAT),
    ("self_attn.v_proj", OUT, "attn.v", FLAT),
    ("self_attn.q_norm", OUT, "attn.q_norm", HEADS),
    ("self_attn.k_norm", OUT, "attn.k_norm", HEADS),
    ("self_attn.o_proj", IN, "attn.mix", FLAT),
    ("self_attn.o_proj", OUT, "attn.out"),
    ("post_attention_layernorm", OUT, "attn.post_norm"),
    ("pre_feedforward_layernorm", IN, "mid"),
    ("pre_feedforward_layernorm", OUT, "ffn.pre_norm"),
    ("mlp.gate_proj", OUT, "ffn.gate"),
    ("mlp.up_proj", OUT, "ffn.up"),
    ("mlp.down_proj", IN, "ffn.act"),
    ("mlp.down_proj", OUT, "ffn.out"),
    ("post_feedforward_layernorm", OUT, "ffn.post_norm"),
    ("", OUT, "out"),
)
VISION_LAYER = (
    ("", IN, "in"),
    ("layer_norm1", OUT, "attn.pre_norm"),
    ("self_attn.q_proj", OUT, "attn.q", FLAT),
    ("self_attn.k_proj", OUT, "attn.k", FLAT),
    ("self_attn.v_proj", OUT, "attn.v", FLAT),
    ("self_attn.out_proj", IN, "attn.mix", FLAT),
    ("self_attn.out_proj", OUT, "attn.out"),
    ("layer_norm2", IN, "mid"),
    ("layer_norm2", OUT, "ffn.pre_norm"),
    ("mlp.fc1", OUT, "ffn.up"),
    ("mlp.fc2", IN, "ffn.act"),
    ("mlp.fc2", OUT, "ffn.out"),
    ("", OUT, "out"),
)
TEXT = (("embed_tokens", OUT, "text.embed"), ("norm", OUT, "text.final_norm"))
TOWER = (
    ("", IN, "vision.pixels"),
    ("embeddings.patch_embedding", OUT, "vision.patch_embed", GRID),
    ("embeddings", OUT, "vision.embed"),
    ("post_layernorm", OUT, "vision.post_norm"),
)
MERGE = (
    ("multi_modal_projector.mm_soft_emb_norm", IN, "vision.pool"),
    ("multi_modal_projector.mm_soft_emb_norm", OUT, "vision.soft_norm"),
    ("multi_modal_projector", OUT, "vision.soft_tokens"),
    ("language_model", IN, "model.merged"),
)
INPUTS = ("hidden_states", "inputs_embeds", "pixel_values", "input", "x")  # what a main input may be called


def find(root: Any, path: str) -> Any:
    """Return the module at a dotted path, None where the owner has taken it away."""
    for name in path.split(".") if path else ():
        root = getattr(root, name, None)
    return root


def attentions(model: Any) -> dict[Any, list[str]]:
    """List the attention modules, each with the prefixes of its taps; a module that is used twice has two."""
    found: dict[Any, list[str]] = defaultdict(list)
    for layers, tower in ((text_model(model).layers, "text"), (_blocks(model), "vision")):
        for i, layer in enumerate(layers):
            module = find(layer, "self_attn")
            if module is not None:  # a compiled one calls its function with the module that it wraps
                found[unwrapped(module)].append(f"{tower}.layer.{i}.")
    return found


def _blocks(model: Any) -> Any:
    return find(vision_tower(model), "encoder.layers") or ()


def _places(model: Any):
    """List (module, side, tap, axes); those of one module in the order of execution."""
    tower, text = vision_tower(model), text_model(model)
    roots = [(tower, TOWER, ""), (model.model, MERGE, "")] if tower is not None else []
    roots += [(layer, VISION_LAYER, f"vision.layer.{i}.") for i, layer in enumerate(_blocks(model))]
    roots += [(text, TEXT, "")]
    roots += [(layer, LAYER, f"text.layer.{i}.") for i, layer in enumerate(text.layers)]
    for root, places, prefix in roots:
        for path, side, tap, *axes in places:
            yield find(root, path), side, prefix + tap, axes[0] if axes else AS_IS


def hook_modules(stack: ExitStack, model: Any, listener: Listener) -> None:
    """Listen to every module until the stack is closed; also where a module's `forward` was replaced.

    Args:
        stack: removes the hooks.
        model: transformers'.
        listener: is told.

    Source: transformers 5.23 `modeling_gemma3.py`, `modeling_siglip.py`.
    Differs: of a compiled model each module is compiled for itself then, since no graph reaches past a hook.
    """
    names: dict[tuple[Any, str], list[tuple[str, str]]] = defaultdict(list)
    for module, side, tap, axes in _places(model):
        if hasattr(module, "register_forward_hook"):  # else taken away, or made a function
            names[module, side].append((tap, axes))
    for (module, side), taps in names.items():
        if side == IN:
            handle = module.register_forward_pre_hook(untraced(_on_input(listener, taps)), with_kwargs=True)
        else:
            handle = module.register_forward_hook(untraced(_on_output(listener, taps)), with_kwargs=True)
        stack.callback(handle.remove)


def _main(args: Any, kwargs: Any) -> Any:
    """Return a module's main input."""
    named = (kwargs[name] for name in INPUTS if kwargs.get(name) is not None)
    return args[0] if args else next(named, None)


def _on_input(listener: Listener, taps: list[tuple[str, str]]):
    def hook(module, args, kwargs):
        tap, axes = listener.turn(module, IN, taps)
        listener.tap(tap, _main(args, kwargs), axes, first=True)

    return hook


def _on_output(listener: Listener, taps: list[tuple[str, str]]):
    def hook(module, args, kwargs, out):
        tap, axes = listener.turn(module, OUT, taps)
        value = out[0] if isinstance(out, (tuple, list)) and out else out
        if axes == HEADS:
            listener.normed(tap, _main(args, kwargs), value)
        else:
            listener.tap(tap, value, axes)

    return hook
