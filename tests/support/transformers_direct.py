"""Models of transformers whose lengths coincide, and what each layer had, without a capture."""

from importlib.util import find_spec
from inspect import signature

CACHE = "past_key_values"  # the name of the cache among a model's arguments, by version
if find_spec("torch") and find_spec("transformers"):
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig
    from transformers.models.gemma3 import modeling_gemma3 as gemma3

    CACHE = "cache" if "cache" in signature(Gemma3ForCausalLM.forward).parameters else CACHE

N, K, H = 4, 2, 6
SIZES = {
    "vocab_size": 97,
    "hidden_size": 20,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "num_attention_heads": N,
    "num_key_value_heads": K,
    "head_dim": H,
    "intermediate_size": 28,
    "sliding_window": 3,
    "query_pre_attn_scalar": 15,
    "max_position_embeddings": 64,
}


def built(attention="eager", **more):
    """Build a model of two layers, with values of any size in every tensor."""
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**SIZES | more)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape) * 0.3)
    model.set_attn_implementation(attention)
    return model


class Direct:
    """Runs a model as its author would, and notes what each layer had, on the axes that the model's source gives."""

    def __init__(self, monkeypatch, model):
        self.model, self.config, self.values = model, model.config, {}
        self.layer = 0
        rotate = gemma3.apply_rotary_pos_emb

        def rotated(q, k, *args, **kwargs):
            q, k = rotate(q, k, *args, **kwargs)
            self.note("attn.q_rope", q.transpose(1, 2))
            self.note("attn.k_rope", k.transpose(1, 2))
            return q, k

        monkeypatch.setattr(gemma3, "apply_rotary_pos_emb", rotated)
        for i, layer in enumerate(model.model.layers):
            layer.register_forward_pre_hook(lambda *_, i=i: setattr(self, "layer", i))
            attention = layer.self_attn
            for name in "qkv":
                getattr(attention, f"{name}_proj").register_forward_hook(self.rows(f"attn.{name}"))
            for name in "qk":
                getattr(attention, f"{name}_norm").register_forward_hook(
                    lambda _m, _a, out, name=name: self.note(f"attn.{name}_norm", out.transpose(1, 2))
                )
            attention.o_proj.register_forward_pre_hook(lambda m, args: self.rows("attn.mix")(m, args, args[0]))

    def note(self, name, value):
        self.values[f"text.layer.{self.layer}.{name}"] = value.detach().clone()

    def rows(self, name):
        def noted(_module, _args, out):
            self.note(name, out.view(*out.shape[:2], -1, self.config.head_dim))

        return noted

    def run(self, ids, steps):
        """Return the values of each pass, with its keys, its values and, of eager attention, its probabilities."""
        cache = gemma3.DynamicCache(config=self.config) if steps else None
        todo, passes = torch.tensor([ids]), []
        for _ in range(steps + 1):
            self.values = {}
            with torch.no_grad():
                out = self.model(todo, **{CACHE: cache}, use_cache=bool(steps), output_attentions=True)
            for i, probs in enumerate(out.attentions or ()):
                if probs is not None:
                    self.values[f"text.layer.{i}.attn.probs"] = probs
            self.values["text.logits"] = out.logits
            if cache is not None:
                self.values["text.layer.1.cache.k"] = cache.layers[1].keys.transpose(1, 2).clone()
                self.values["text.layer.1.cache.v"] = cache.layers[1].values.transpose(1, 2).clone()
            passes.append(self.values)
            todo = out.logits[:, -1].argmax(-1)[:, None]
        return passes
