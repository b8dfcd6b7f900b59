"""The text model in jax.numpy, for its products: the default precision is TF32 on a GPU and float32 on a CPU.

Needs jax 0.10 or 0.11.
"""

from functools import partial

import numpy as np

from ref.ops.linear import widen_jit

from .foreign import heads, needs, write_passes
from .row import Row
from .subjects import made_ids, weights

EVERY = {"text.embed", "text.final_norm", "text.logits"}


def run(jax, loaded, ids, precision) -> dict:
    """Run a prompt; return its taps."""
    jnp, c, taps = jax.numpy, loaded.params.config, {}
    dot = partial(jnp.matmul, precision=precision)

    def tap(name, value):
        taps[name] = value
        return value

    def norm(x, gain):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + c.rms_eps) * (1 + array(gain))

    def array(weight):
        return jnp.asarray(widen_jit(weight), jnp.float32)

    def rope(x, base, factor):
        angle = jnp.arange(len(ids))[:, None] / (factor * base ** (jnp.arange(0, c.head_dim, 2) / c.head_dim))
        low, high, cos, sin = *jnp.split(x, 2, -1), jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
        return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], -1)

    def attend(q, k, v, window, at):
        grouped = q.reshape(len(ids), c.kv_heads, -1, c.head_dim)
        scores = jnp.einsum("tkgh,skh->kgts", grouped, k, precision=precision) * c.query_scale
        tap(f"{at}attn.scores", scores.reshape(c.query_heads, len(ids), len(ids)))
        apart = jnp.arange(len(ids))[:, None] - jnp.arange(len(ids))[None]
        probs = jax.nn.softmax(jnp.where((apart >= 0) & (apart < (window or len(ids))), scores, -jnp.inf), -1)
        tap(f"{at}attn.probs", probs.reshape(c.query_heads, len(ids), len(ids)))
        return jnp.einsum("kgts,skh->tkgh", probs, v, precision=precision).reshape(q.shape)

    table = array(loaded.params.embedding)
    x = tap("text.embed", table[jnp.asarray(ids)] * jnp.float32(c.width**0.5))
    for i, p in enumerate(loaded.params.layers):
        at = f"text.layer.{i}."
        pre = tap(f"{at}attn.pre_norm", norm(tap(f"{at}in", x), p.pre_attn_norm))
        q, k, v = (
            tap(f"{at}attn.{name}", heads(dot(pre, array(getattr(p, name)).T), c.head_dim)) for name in ("q", "k", "v")
        )
        q, k = (tap(f"{at}attn.{n}_norm", norm(y, getattr(p, f"{n}_norm"))) for n, y in (("q", q), ("k", k)))
        q, k = (tap(f"{at}attn.{n}_rope", rope(y, *c.rope(i))) for n, y in (("q", q), ("k", k)))
        mixed = tap(f"{at}attn.mix", attend(q, k, v, c.window_of(i), at))
        out = tap(f"{at}attn.out", dot(mixed.reshape(len(ids), -1), array(p.attn_out).T))
        mid = tap(f"{at}mid", x + tap(f"{at}attn.post_norm", norm(out, p.post_attn_norm)))
        pre = tap(f"{at}ffn.pre_norm", norm(mid, p.pre_ffn_norm))
        gate, up = (tap(f"{at}ffn.{n}", dot(pre, array(getattr(p, n)).T)) for n in ("gate", "up"))
        act = tap(f"{at}ffn.act", jax.nn.gelu(gate, approximate=True) * up)
        out = tap(f"{at}ffn.out", dot(act, array(p.down).T))
        x = tap(f"{at}out", mid + tap(f"{at}ffn.post_norm", norm(out, p.post_ffn_norm)))
    x = tap("text.final_norm", norm(x, loaded.params.final_norm))
    tap("text.logits", dot(x, table.T))
    return taps


def capture(loaded, ids, folder, precision="default", keep=lambda tap: True) -> None:
    """Write a dump of one prompt; `keep` tells which taps."""
    (jax,) = needs("jax", version="jax")
    taps = {name: (np.asarray(value)[None], None) for name, value in run(jax, loaded, ids, precision).items()}
    taps = {name: value for name, value in taps.items() if keep(name)}
    write_passes(folder, ("jax.numpy", jax.__version__), loaded, "float32", [(ids, taps)])


def write(name, precision, length, folder, plant=None):
    """Capture a subject and return its weights."""
    loaded = weights(name)
    capture(loaded, made_ids(loaded, length), folder, precision)
    return loaded


def rows():
    """Yield the rows."""
    for name, lengths in {"1b-pair": (1, 3, 16), "tiny": (3, 40), "270m": (6,)}.items():
        for length in lengths:
            for precision in ("default", "highest"):
                call = partial(write, name, precision, length)
                yield Row(f"jax/{name}/float32/{precision}/{length}", "float32", name, call)
