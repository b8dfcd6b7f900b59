"""LitGPT: needs litgpt==0.5.13.

Its rows of Gemma 3 leave epsilon at 1e-5: a true difference, mended here, since rows are of clean runs.
"""

from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from unittest import mock

import torch

from ref.capture.transformers.listen import to_numpy

from .foreign import float_weights, heads, needs, write_passes
from .real import encoded
from .row import Row
from .subjects import made_ids, weights

VERSION = "litgpt==0.5.13"
INPUTS = {"attn.proj": "attn.mix", "norm_2": "mid", "mlp.proj": "ffn.act", "norm_1": "in"}
OUTPUTS = {
    "norm_1": "attn.pre_norm",
    "attn.norm_q": "attn.q_norm",
    "attn.norm_k": "attn.k_norm",
    "attn.proj": "attn.out",
    "post_attention_norm": "attn.post_norm",
    "norm_2": "ffn.pre_norm",
    "mlp.fc_1": "ffn.gate",
    "mlp.fc_2": "ffn.up",
    "mlp.proj": "ffn.out",
    "post_mlp_norm": "ffn.post_norm",
    "": "out",
}
AXES = {"attn.q_norm": "B N T H", "attn.k_norm": "B K T H", "attn.q_rope": "B N T H", "attn.k_rope": "B K T H"}
NAMES = {
    "embed_tokens": "transformer.wte",
    "norm": "transformer.ln_f",
    "input_layernorm": "norm_1",
    "self_attn.q_norm": "attn.norm_q",
    "self_attn.k_norm": "attn.norm_k",
    "self_attn.o_proj": "attn.proj",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "norm_2",
    "mlp.gate_proj": "mlp.fc_1",
    "mlp.up_proj": "mlp.fc_2",
    "mlp.down_proj": "mlp.proj",
    "post_feedforward_layernorm": "post_mlp_norm",
}


def build(loaded, dtype: str):
    """Return LitGPT's model of the weights."""
    litgpt, _ = needs("litgpt.model", "litgpt", version=VERSION)
    c = loaded.params.config
    local = [int(not c.is_global(i)) for i in range(c.layers)]
    config = litgpt.Config(
        name="Gemma-3-custom",
        scale_embeddings=True,
        attention_scores_scalar=round(c.query_scale**-2),
        vocab_size=c.vocabulary,
        padded_vocab_size=c.vocabulary,
        block_size=1024,
        sliding_window_size=c.window,
        sliding_window_indices=local,
        intermediate_size=c.ffn_width,
        n_embd=c.width,
        n_layer=c.layers,
        n_head=c.query_heads,
        n_query_groups=c.kv_heads,
        head_size=c.head_dim,
        rotary_percentage=1.0,
        rope_adjustments=None if c.rope_factor == 1 else {"factor": c.rope_factor},
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=c.rms_eps,
        mlp_class_name="GemmaMLP",
        gelu_approximate="tanh",
        post_attention_norm=True,
        post_mlp_norm=True,
        norm_qk=True,
        rope_base=int(c.rope_base_global),
        rope_local_base_freq=c.rope_base_local,
        rope_indices=local,
    )
    model = litgpt.GPT(config)
    model.load_state_dict(dict(state(loaded)), strict=True)
    return model.to(getattr(torch, dtype)).eval()


def state(loaded):
    """Yield (name, tensor) of LitGPT: q, k and v are one matrix, and the head is no view of the embedding."""
    parts = {}
    for name, value in float_weights(loaded, ""):
        tensor, (module, _) = torch.from_numpy(value), name.rsplit(".", 1)
        if module == "embed_tokens":
            yield "lm_head.weight", tensor
        layer, inner = module.removeprefix("layers.").split(".", 1) if module.startswith("layers.") else ("", module)
        if inner in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            parts.setdefault(layer, []).append(tensor)
            if len(parts[layer]) == 3:  # they come in this order
                yield f"transformer.h.{layer}.attn.qkv.weight", torch.cat(parts[layer])
            continue
        yield f"transformer.h.{layer}.{NAMES[inner]}.weight" if layer else f"{NAMES[inner]}.weight", tensor


@contextmanager
def heard(model, loaded, taps):
    """Listen to the modules, and to the rotation, which is none."""
    (litgpt,) = needs("litgpt.model", version=VERSION)
    c = loaded.params.config
    rotate, rotated = litgpt.apply_rope, []

    def tap(name, value):
        array, inner = to_numpy(value), name.split(".", 3)[-1]
        taps[name] = heads(array, c.head_dim) if inner == "attn.mix" else array, AXES.get(inner)

    def apply_rope(x, cos, sin):
        y = rotate(x, cos, sin)
        rotated.append(y)
        tap(f"text.layer.{(len(rotated) - 1) // 2}.attn.{'qk'[(len(rotated) - 1) % 2]}_rope", y)  # queries come first
        return y

    def split(at, value):
        sizes = [n * c.head_dim for n in (c.query_heads, c.kv_heads, c.kv_heads)]
        for name, part in zip("qkv", value.split(sizes, -1), strict=True):
            taps[f"{at}attn.{name}"] = heads(to_numpy(part), c.head_dim), None

    with ExitStack() as stack:

        def after(module, function):
            stack.callback(module.register_forward_hook(lambda m, given, out: function(given[0], out)).remove)

        for i, block in enumerate(model.transformer.h):
            at = f"text.layer.{i}."
            after(block.attn.qkv, lambda _, out, at=at: split(at, out))
            for path, name in INPUTS.items():
                after(block.get_submodule(path), lambda given, _, name=at + name: tap(name, given))
            for path, name in OUTPUTS.items():
                after(block.get_submodule(path), lambda _, out, name=at + name: tap(name, out))
        after(model.transformer.ln_f, lambda _, out: tap("text.final_norm", out))
        after(model.lm_head, lambda _, out: tap("text.logits", out))
        stack.enter_context(mock.patch.object(litgpt, "apply_rope", apply_rope))
        yield


def write(name, dtype, ids_of, folder, plant=None):
    """Capture a subject; return the weights."""
    loaded, taps = weights(name), {}
    model, ids = build(loaded, dtype), ids_of(loaded)
    with torch.no_grad(), heard(model, loaded, taps):
        model(torch.tensor([ids]))
    taps["text.embed"] = taps["text.layer.0.in"]
    write_passes(folder, ("litgpt", version("litgpt")), loaded, dtype, [(ids, taps)], attention_impl="sdpa")
    return loaded


def rows():
    """Yield the rows."""
    for name in ("270m", "1b-pair", "4b-local", "tiny"):
        for dtype in ("float32", "bfloat16"):
            jobs = {f"{n}": partial(made_ids, count=n) for n in (3, 16)}
            if name == "270m":
                jobs |= {text: (lambda loaded, text=text: encoded(text)) for text in ("france", "licence", "long")}
            for what, ids in jobs.items():
                call = partial(write, name, dtype, ids)
                yield Row(f"litgpt/{name}/{dtype}/{what}", dtype, name, call)
