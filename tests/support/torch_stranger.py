"""A Gemma 3 in torch whose modules have names that no table knows: fused projections, sums in place, heads first."""

from importlib.util import find_spec

import numpy as np

import ref
from ref.ops.linear import widen_jit
from ref.weights.export import named_weights

if find_spec("torch"):
    import torch
    from torch import nn
    from torch.nn.functional import gelu, linear

IDS = [2, 33, 5, 80, 7, 11, 3, 90, 61]  # longer than the window of 5
TABLE = {
    "stack.{i}": [("text.layer.{i}.in", "input"), "text.layer.{i}.out"],
    "stack.{i}.n1": "text.layer.{i}.attn.pre_norm",
    "stack.{i}.qkv": ("L.attn.q + L.attn.k + L.attn.v", "B T (N H)+(K H)+(K H)"),
    "stack.{i}.qn": ("text.layer.{i}.attn.q_norm", "B N T H"),
    "stack.{i}.kn": ("text.layer.{i}.attn.k_norm", "B K T H"),
    "stack.{i}.o": [("text.layer.{i}.attn.mix", "B T (N H)", "input"), ("text.layer.{i}.attn.out", "B T D", "output")],
    "stack.{i}.gu": ("L.ffn.gate + L.ffn.up", "B T F+F"),
    "stack.{i}.down": [("L.ffn.act", "input"), "L.ffn.out"],
}
MADE_OF = {
    "n1": ["input_layernorm"],
    "qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "qn": ["self_attn.q_norm"],
    "kn": ["self_attn.k_norm"],
    "o": ["self_attn.o_proj"],
    "n2": ["post_attention_layernorm"],
    "n3": ["pre_feedforward_layernorm"],
    "gu": ["mlp.gate_proj", "mlp.up_proj"],
    "down": ["mlp.down_proj"],
    "n4": ["post_feedforward_layernorm"],
}


def tiny():
    return ref.load("tiny")._replace(vision=None)


def stranger(loaded=None, dtype="float32"):
    """Build it of weights; torch is imported by now."""
    loaded = loaded or tiny()
    weights = {name: np.require(widen_jit(one), np.float32, "W") for name, one in named_weights(loaded.params, "")}

    class Norm(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def forward(self, x):
            y = x.float()
            y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight.float())
            return y.to(x.dtype)

    class Product(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def forward(self, x):
            return linear(x, self.weight)

    class Cell(nn.Module):
        exact = False

        def __init__(self, c, i):
            super().__init__()
            self.c, self.i = c, i
            self.past = None  # its cache: keys and values of earlier passes
            for name, parts in MADE_OF.items():
                tensors = [torch.from_numpy(weights[f"layers.{i}.{one}.weight"]) for one in parts]
                weight = nn.Parameter(torch.cat(tensors))
                setattr(self, name, Norm(weight) if weight.ndim == 1 else Product(weight))

        def forward(self, h, mask, positions, keep):
            c, (B, T, _) = self.c, h.shape
            parts = self.qkv(self.n1(h)).split([c.query_heads * c.head_dim, *[c.kv_heads * c.head_dim] * 2], -1)
            q, k, v = (one.unflatten(-1, (-1, c.head_dim)).transpose(1, 2) for one in parts)
            q, k = self._turn(self.qn(q), positions), self._turn(self.kn(k), positions)
            if self.past is not None and keep:
                k, v = (torch.cat([old, new], 2) for old, new in zip(self.past, (k, v), strict=True))
            self.past = (k, v) if keep else None
            k, v = (one.repeat_interleave(c.query_heads // c.kv_heads, 1) for one in (k, v))
            scores = q @ k.transpose(2, 3) * c.query_scale
            scores = scores.masked_fill(~self._seen(mask, T), torch.finfo(h.dtype).min)
            mix = (scores.float().softmax(-1).to(h.dtype) @ v).transpose(1, 2).reshape(B, T, -1)
            h += self.n2(self.o(mix))  # in place: what went in is gone
            gate, up = self.gu(self.n3(h)).chunk(2, -1)
            h += self.n4(self.down(gelu(gate, approximate="none" if self.exact else "tanh") * up))
            return h

        def _seen(self, mask, T):
            key = torch.arange(mask.shape[1])
            back = key[-T:, None] - key
            causal = (back >= 0) & (back < (self.c.window_of(self.i) or mask.shape[1]))
            return causal & (mask[:, None, None] == 1)

        def _turn(self, x, positions):
            c, half = self.c, self.c.head_dim // 2
            base, factor = (c.rope_base_global, c.rope_factor) if c.is_global(self.i) else (c.rope_base_local, 1.0)
            rate = base ** -(torch.arange(half, dtype=torch.float64) / half) / factor
            angle = positions[:, None, :, None] * rate
            cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
            a, b = x[..., :half], x[..., half:]
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    class Stranger(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c = c
            self.book = nn.Parameter(torch.from_numpy(weights["embed_tokens.weight"]))
            self.stack = nn.ModuleList(Cell(c, i) for i in range(c.layers))
            self.last = Norm(nn.Parameter(torch.from_numpy(weights["norm.weight"])))

        def forward(self, ids, mask=None, positions=None, keep=False):
            mask = torch.ones_like(ids) if mask is None else mask
            positions = torch.arange(ids.shape[1])[None] if positions is None else positions
            h = self.book[ids] * torch.tensor(self.c.width**0.5, dtype=self.book.dtype)
            for cell in self.stack:
                h = cell(h, mask=mask, positions=positions, keep=keep)
            return linear(self.last(h), self.book)

    return Stranger(loaded.params.config).to(getattr(torch, dtype)).eval()
