"""MLX: needs mlx[cpu]==0.32.4 and mlx-lm==0.32.2.

mlx-lm scales embeddings by a factor rounded to bfloat16 also in float32: a true difference, mended here, since rows are
of clean runs.
"""

from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import version

import numpy as np

from .foreign import Taps, float_weights, needs, write_passes
from .real import encoded
from .row import Row
from .subjects import made_ids, weights

VERSION = "mlx[cpu]==0.32.4 mlx-lm==0.32.2"
HEARD = {  # module of a layer: (tap of its input, tap of its output, axes, where they are others than ours)
    "input_layernorm": ("in", "attn.pre_norm", None),
    "self_attn.q_proj": (None, "attn.q", None),
    "self_attn.k_proj": (None, "attn.k", None),
    "self_attn.v_proj": (None, "attn.v", None),
    "self_attn.q_norm": (None, "attn.q_norm", "B N T H"),
    "self_attn.k_norm": (None, "attn.k_norm", "B K T H"),
    "self_attn.rope": (None, "attn.{}_rope", "B {} T H"),
    "self_attn.o_proj": ("attn.mix", "attn.out", None),
    "post_attention_layernorm": (None, "attn.post_norm", None),
    "pre_feedforward_layernorm": ("mid", "ffn.pre_norm", None),
    "mlp.gate_proj": (None, "ffn.gate", None),
    "mlp.up_proj": (None, "ffn.up", None),
    "mlp.down_proj": ("ffn.act", "ffn.out", None),
    "post_feedforward_layernorm": (None, "ffn.post_norm", None),
}
SPLIT = ("attn.q", "attn.k", "attn.v", "attn.mix")  # heads lie in the last axis there


def build(loaded, dtype: str):
    """Return mlx-lm's model of the weights."""
    mx, gemma3 = needs("mlx.core", "mlx_lm.models.gemma3_text", version=VERSION)
    c = loaded.params.config
    scaling = None if c.rope_factor == 1 else {"rope_type": "linear", "factor": c.rope_factor}
    args = gemma3.ModelArgs(
        model_type="gemma3_text",
        hidden_size=c.width,
        num_hidden_layers=c.layers,
        intermediate_size=c.ffn_width,
        num_attention_heads=c.query_heads,
        head_dim=c.head_dim,
        rms_norm_eps=c.rms_eps,
        vocab_size=c.vocabulary,
        num_key_value_heads=c.kv_heads,
        rope_theta=c.rope_base_global,
        rope_local_base_freq=c.rope_base_local,
        query_pre_attn_scalar=c.query_scale**-2,
        sliding_window=c.window,
        sliding_window_pattern=c.global_every,
        max_position_embeddings=c.max_positions,
        rope_scaling=scaling,
    )
    model = gemma3.Model(args)
    kind = getattr(mx, dtype)
    tensors = {name: mx.array(value).astype(kind) for name, value in float_weights(loaded)}
    model.load_weights(list(model.sanitize(tensors).items()))
    return model


@contextmanager
def scale_in_float32():
    """Let mlx-lm's module find float32 where it says bfloat16: it says so of the embedding's scale alone."""
    mx, gemma3 = needs("mlx.core", "mlx_lm.models.gemma3_text", version=VERSION)

    class Mended:
        bfloat16 = mx.float32

        def __getattr__(self, name):
            return getattr(mx, name)

    gemma3.mx = Mended()
    try:
        yield
    finally:
        gemma3.mx = mx


def listen(model, taps: Taps) -> None:
    """Put a listener around each module that has taps."""
    mx, nn = needs("mlx.core", "mlx.nn", version=VERSION)
    head_dim = model.args.head_dim

    def tap(name, value, axes=None):
        array = np.array(value.astype(mx.float32))
        if name.endswith(SPLIT):
            array = array.reshape(*array.shape[:-1], -1, head_dim)
        taps[name] = array, axes

    class Heard(nn.Module):
        def __init__(self, inner, before, after, axes=None):
            super().__init__()
            self.inner, self.before, self.after, self.axes, self.calls = inner, before, after, axes, 0

        def __call__(self, x, *rest, **named):
            y = self.inner(x, *rest, **named)
            if self.before:
                tap(self.before, x)
            turn = self.calls % 2  # queries are rotated first
            tap(self.after.format("qk"[turn]), y, self.axes and self.axes.format("NK"[turn]))
            self.calls += 1
            return y

    for i, layer in enumerate(model.model.layers):
        for path, (before, after, axes) in HEARD.items():
            *above, last = path.split(".")
            owner = layer[above[0]] if above else layer
            at = f"text.layer.{i}."
            owner[last] = Heard(owner[last], before and at + before, at + after, axes)
        model.model.layers[i] = Heard(layer, "text.embed" if i == 0 else None, f"text.layer.{i}.out")
    model.model.norm = Heard(model.model.norm, None, "text.final_norm")


def write(name, dtype, ids_of, steps, folder, plant=None):
    """Capture a subject: the prompt and greedy cached steps; return the weights."""
    loaded = weights(name)
    mx, _ = needs("mlx.core", "mlx_lm", version=VERSION)
    model, taps, passes = build(loaded, dtype), {}, []
    cache = model.make_cache() if steps else None
    listen(model, taps)
    todo = ids_of(loaded)
    with scale_in_float32() if dtype == "float32" else nullcontext():
        for _ in range(steps + 1):
            logits = model(mx.array([todo]), cache)
            taps["text.logits"] = np.array(logits.astype(mx.float32)), None
            passes.append((todo, dict(taps)))
            todo = [int(logits[0, -1].argmax())]
    write_passes(folder, ("mlx-lm", version("mlx-lm")), loaded, dtype, passes)
    return loaded


def rows():
    """Yield the rows."""
    for name in ("270m", "1b-pair", "tiny"):
        for dtype in ("float32", "bfloat16"):
            jobs = {f"{n}": (partial(made_ids, count=n), 0) for n in (3, 16)}
            jobs["steps"] = (partial(made_ids, count=13), 2)
            if name == "270m":
                jobs = {t: ((lambda loaded, t=t: encoded(t)), 0) for t in ("france", "licence", "long")} | jobs
            for what, (ids, steps) in jobs.items():
                call = partial(write, name, dtype, ids, steps)
                yield Row(f"mlx/{name}/{dtype}/{what}", dtype, name, call)
