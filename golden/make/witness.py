"""The witness: Hugging Face transformers, run on given weights in float32 and in float64 throughout, with taps.

Nothing here uses gemma3-ref's own arithmetic; its names for values are the only thing taken over.
"""

import re
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import torch
import transformers
import witness_vision
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.models.gemma3.modeling_gemma3 import eager_attention_forward, repeat_kv
from transformers.models.siglip.modeling_siglip import eager_attention_forward as siglip_attention_forward

from ref.golden_files.sampled import made_pixels

NAME = {"name": "transformers", "version": transformers.__version__, "torch": torch.__version__}


def from_folder(folder):
    """Load an official checkpoint in float32."""
    return Gemma3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def from_gguf(path, config_json):
    """Build the model of a GGUF file with the `gguf` package's dequantisation."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    names = {
        "token_embd": "embed_tokens", "output_norm": "norm", "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "attn_output": "self_attn.o_proj",
        "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
        "post_ffw_norm": "post_feedforward_layernorm",
    }  # fmt: skip
    state = {}
    for tensor in GGUFReader(path).tensors:
        parts = tensor.name.split(".")
        head = f"model.layers.{parts[1]}." if parts[0] == "blk" else "model."
        data = dequantize(tensor.data, tensor.tensor_type)
        if parts[-2].endswith("norm"):
            data = data - np.float32(1)
        state[f"{head}{names[parts[-2]]}.weight"] = torch.from_numpy(np.array(data, np.float32))
    model = Gemma3ForCausalLM(Gemma3TextConfig(**config_json))
    missing = model.load_state_dict(state, strict=False)
    assert missing.missing_keys == ["lm_head.weight"], missing
    assert not missing.unexpected_keys, missing
    model.tie_weights()
    return model.eval()


def text_of(model):
    """Return the text model, whether or not it stands beside a vision tower."""
    return getattr(model.model, "language_model", model.model)


def _tapped(attention, keeps_probs):
    """Wrap one of transformers' attention functions: report what goes in and comes out, change nothing."""

    def run(module, query, key, value, attention_mask, **kwargs):
        tap, prefix = module.config.tap, getattr(module, "tap_prefix", None)
        out, probs = attention(module, query, key, value, attention_mask, **kwargs)
        if tap is None:
            return out, probs
        if prefix is None:  # a text layer
            new, prefix = query.shape[2], f"text.layer.{module.layer_idx}."
            tap(prefix + "attn.q_rope", query.transpose(1, 2))
            tap(prefix + "attn.k_rope", key[:, :, -new:].transpose(1, 2))
            if keeps_probs:
                tap(prefix + "attn.seen", attention_mask[:, 0] == 0)
                if module.config.use_cache:
                    tap(prefix + "cache.k", key.transpose(1, 2))
                    tap(prefix + "cache.v", value.transpose(1, 2))
        if keeps_probs and not tap.skips(prefix + "attn.scores"):
            groups = getattr(module, "num_key_value_groups", 1)
            scores = torch.matmul(query, repeat_kv(key, groups).transpose(2, 3)) * kwargs["scaling"]
            tap(prefix + "attn.scores", scores)
            tap(prefix + "attn.probs", probs)
        return out, probs

    return run


def _eager(module, *args, **kwargs):
    """Attend as the module's own file does."""
    of_text = hasattr(module, "num_key_value_groups")
    return (eager_attention_forward if of_text else siglip_attention_forward)(module, *args, **kwargs)


AttentionInterface.register("tapped_eager", _tapped(_eager, True))
AttentionInterface.register("tapped_sdpa", _tapped(sdpa_attention_forward, False))
AttentionMaskInterface.register("tapped_eager", eager_mask)
AttentionMaskInterface.register("tapped_sdpa", sdpa_mask)
INPUTS = ("hidden_states", "inputs_embeds", "pixel_values")  # what a module's main input may be called


@contextmanager
def hooked(model, tap, images=False):
    """Report every module's value under our names while the context lasts."""
    c, text, handles = model.config.get_text_config(), text_of(model), []

    def on_output(module, name, shape=None):
        def hook(_module, _args, out):
            tap(name, out if shape is None else shape(out))

        handles.append(module.register_forward_hook(hook))

    def on_input(module, name, shape=None):
        def hook(_module, args, kwargs):
            value = args[0] if args else next(kwargs[key] for key in INPUTS if kwargs.get(key) is not None)
            tap(name, value if shape is None else shape(value))

        handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def heads(x):
        return x.reshape(*x.shape[:2], -1, c.head_dim)

    def swapped(x):
        return x.transpose(1, 2)

    on_output(text.embed_tokens, "text.embed")
    for i, layer in enumerate(text.layers):
        at, attn, mlp = f"text.layer.{i}.", layer.self_attn, layer.mlp
        on_input(layer, at + "in")
        on_output(layer.input_layernorm, at + "attn.pre_norm")
        for name in "qkv":
            on_output(getattr(attn, f"{name}_proj"), f"{at}attn.{name}", heads)
        on_output(attn.q_norm, at + "attn.q_norm", swapped)
        on_output(attn.k_norm, at + "attn.k_norm", swapped)
        on_input(attn.o_proj, at + "attn.mix", heads)
        on_output(attn.o_proj, at + "attn.out")
        on_output(layer.post_attention_layernorm, at + "attn.post_norm")
        on_input(layer.pre_feedforward_layernorm, at + "mid")
        on_output(layer.pre_feedforward_layernorm, at + "ffn.pre_norm")
        on_output(mlp.gate_proj, at + "ffn.gate")
        on_output(mlp.up_proj, at + "ffn.up")
        on_input(mlp.down_proj, at + "ffn.act")
        on_output(mlp.down_proj, at + "ffn.out")
        on_output(layer.post_feedforward_layernorm, at + "ffn.post_norm")
        on_output(layer, at + "out")
    on_output(text.norm, "text.final_norm")
    on_output(model.lm_head, "text.logits")
    configs = [c]
    if images:
        witness_vision.hook(model, on_output, on_input)
        on_input(text, "model.merged")
        configs.append(model.config.vision_config)
    for config in configs:
        config.tap = tap
    try:
        yield
    finally:
        for config in configs:
            config.tap = None
        for handle in handles:
            handle.remove()


@contextmanager
def float64_throughout(model):
    """Turn a float32 model to float64, its internal float32 casts, frequencies and embedding scale included."""
    c, text = model.config.get_text_config(), text_of(model)
    rope = text.rotary_emb
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.double()
    text.embed_tokens.embed_scale = torch.tensor(c.hidden_size**0.5, dtype=torch.float64)
    even = torch.arange(0, c.head_dim, 2, dtype=torch.float64)
    for kind, row in c.rope_parameters.items():
        frequency = 1.0 / (row["rope_theta"] ** (even / c.head_dim)) / row.get("factor", 1.0)
        setattr(rope, f"{kind}_inv_freq", frequency)
    to, softmax = torch.Tensor.to, torch.nn.functional.softmax

    def stay_wide(self, *args, **kwargs):
        if self.dtype == torch.float64 and torch.float32 in (*args, kwargs.get("dtype")):
            return self
        return to(self, *args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.Tensor, "float", torch.Tensor.double))
        stack.enter_context(patch.object(torch.Tensor, "to", stay_wide))
        wide = lambda x, dim=None, dtype=None: softmax(x, dim=dim)  # noqa: E731
        stack.enter_context(patch.object(torch.nn.functional, "softmax", wide))
        yield
    model.float()
    for (
        name,
        buffer,
    ) in kept.items():  # the float32 run has float32's own frequencies, not rounded better ones
        where, _, last = name.rpartition(".")
        model.get_submodule(where).register_buffer(last, buffer, persistent=False)


class Tap:
    """What the hooks of one pass report to: `keep(number, name, tensor)`, less the names that match `skip`."""

    def __init__(self, keep, number, skip):
        self.keep, self.number, self.skip = keep, number, re.compile(skip)

    def skips(self, name):
        """Tell whether nobody wants this value, so that it need not be formed."""
        return self.skip.match(name) is not None

    def __call__(self, name, value):
        """Hand a value on."""
        if not self.skips(name):
            self.keep(self.number, name, value.detach())


@torch.inference_mode()
def run(model, passes, attention, keep, orders=None, skip="$."):
    """Run the passes of a case in order; `keep(pass index, tap, tensor)` receives every value.

    A pass is {ids [B, T], left_pads [B], cached, packed, images}; passes after the first continue its cache. `orders`
    are those of a permuted model, which wants its pixels permuted too; names that match `skip` are not formed.
    """
    model.set_attn_implementation(f"tapped_{attention}")
    c = model.config.get_text_config()
    cache = DynamicCache(config=c) if len(passes) > 1 else None
    c.use_cache = cache is not None
    for number, one in enumerate(passes):
        ids = torch.tensor(one["ids"])
        total = one["cached"] + ids.shape[1]
        pads = torch.tensor(one["left_pads"])
        mask = (torch.arange(total)[None] >= pads[:, None]).long()
        positions = (torch.arange(one["cached"], total)[None] - pads[:, None]).clamp(min=0)
        kwargs = {"attention_mask": mask, "position_ids": positions}
        if one.get("packed"):  # restarted positions and no mask are how transformers is told of packing
            parts = [torch.arange(n) for n in one["packed"]]
            kwargs = {"position_ids": torch.cat(parts)[None]}
        if images := one.get("images"):
            pixels = torch.from_numpy(made_pixels(images, model.config.vision_config.image_size))
            pixels = witness_vision.permute_pixels(pixels, orders.vision) if orders else pixels
            soft = (ids == model.config.image_token_id).long()
            kwargs |= {"pixel_values": pixels.to(model.dtype), "token_type_ids": soft}
        with hooked(model, Tap(keep, number, skip), bool(images)):
            model(input_ids=ids, past_key_values=cache, use_cache=cache is not None, **kwargs)
