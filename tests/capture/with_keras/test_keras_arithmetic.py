"""keras-hub's numbers in bfloat16 are made by the arithmetic that the module says."""

import ml_dtypes
import numpy as np
import pytest
from support.keras_captures import IDS, TINY, needs_keras, only_pass, running

from ref.model.tap_rows import LAYER_TAPS
from ref.ops.linear import widen
from ref.weights.synthetic import synthetic_params


def r(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def norm(x, weight):
    mean = (x * x).mean(-1, keepdims=True, dtype=np.float32)
    return r(x * (1 / np.sqrt(mean + np.float32(1e-6))) * (1 + weight))


def rotated(x, positions, config, layer):
    base, factor = config.rope(layer)
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    angle = positions.astype(np.float32)[:, None] * (np.float32(base) ** -exponents / np.float32(factor))
    (a, b), cos, sin = np.split(x, 2, -1), r(np.cos(angle))[:, None], r(np.sin(angle))[:, None]
    return r(np.concatenate([r(a * cos) - r(b * sin), r(b * cos) + r(a * sin)], -1))


def gelu(x, cube):
    inner = r(r(np.sqrt(2 / np.pi)) * r(x + r(r(0.044715) * cube(x))))
    return r(r(np.float32(0.5) * x) * r(1 + r(np.tanh(inner))))


# TensorFlow's is one operation, the others' two
CUBES = {"tensorflow": lambda x: r(x * x * x), "jax": lambda x: r(r(x * x) * x)}
PRODUCTS = ("attn.q", "attn.k", "attn.v", "attn.scores", "attn.mix", "attn.out", "ffn.gate", "ffn.up", "ffn.out")


def assert_rounded(got, wanted, tap, equal=0.997):
    """Assert that few values lie on the other side of a rounding, and next to it: sums differ in order."""
    assert (got == wanted).mean() > equal, tap
    assert (abs(got - wanted) <= np.maximum(abs(got), abs(wanted)) * 2.0**-7).all(), tap


def assert_stepwise(one, params, cube):
    c, positions = params.config, np.arange(one["text.embed"].shape[1])
    for i, layer in enumerate(params.layers):
        v = {name: one[f"text.layer.{i}.{name}"][0] for name in LAYER_TAPS if f"text.layer.{i}.{name}" in one}
        v = {name: value if value.dtype == np.int64 else value.astype(np.float32) for name, value in v.items()}
        start, stop = v["attn.visible"].T[:, :, None]
        scores = np.where((positions >= start) & (positions < stop), v["attn.scores"], np.float32(-1e9))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        keys, values = (np.repeat(v[name], c.query_heads // c.kv_heads, axis=1) for name in ("attn.k_rope", "attn.v"))

        def product(source, weight, v=v):
            return r(v[source].reshape(len(positions), -1) @ r(widen(weight)).T)

        wanted = {
            "attn.pre_norm": norm(v["in"], r(layer.pre_attn_norm)),
            "attn.q": product("attn.pre_norm", layer.q),
            "attn.k": product("attn.pre_norm", layer.k),
            "attn.v": product("attn.pre_norm", layer.v),
            "attn.q_norm": norm(v["attn.q"], r(layer.q_norm)),
            "attn.k_norm": norm(v["attn.k"], r(layer.k_norm)),
            "attn.q_rope": rotated(v["attn.q_norm"], positions, c, i),
            "attn.k_rope": rotated(v["attn.k_norm"], positions, c, i),
            "attn.scores": r(np.einsum("tnh,snh->nts", r(v["attn.q_rope"] * r(c.query_scale)), keys)),
            "attn.probs": r(weights / weights.sum(-1, keepdims=True)),
            "attn.mix": r(np.einsum("nts,snh->tnh", v["attn.probs"], values)),
            "attn.out": product("attn.mix", layer.attn_out),
            "attn.post_norm": norm(v["attn.out"], r(layer.post_attn_norm)),
            "mid": r(v["in"] + v["attn.post_norm"]),
            "ffn.pre_norm": norm(v["mid"], r(layer.pre_ffn_norm)),
            "ffn.gate": product("ffn.pre_norm", layer.gate),
            "ffn.up": product("ffn.pre_norm", layer.up),
            "ffn.act": r(gelu(v["ffn.gate"], cube) * v["ffn.up"]),
            "ffn.out": product("ffn.act", layer.down),
            "ffn.post_norm": norm(v["ffn.out"], r(layer.post_ffn_norm)),
            "out": r(v["mid"] + v["ffn.post_norm"]),
        }
        assert set(wanted) == set(v) - {"in", "attn.visible"}
        for name, value in wanted.items():
            equal = 0.99 if name in PRODUCTS else 0.997
            assert_rounded(v[name], value.reshape(v[name].shape), f"layer {i} {name}", equal)


@needs_keras
def test_bfloat16_rounds_where_the_module_says(tmp_path, parts):
    backend = parts.keras.config.backend()
    if backend not in CUBES:
        pytest.skip(f"the arithmetic of keras on {backend} was not looked into")
    params = synthetic_params(TINY, 0, bfloat16=False)
    one = only_pass(running(parts, "bfloat16"), tmp_path / "dump")
    assert_stepwise(one, params, CUBES[backend])
    table, last = r(widen(params.embedding)), one["text.layer.6.out"][0].astype(np.float32)
    assert_rounded(one["text.embed"][0].astype(np.float32), r(table[IDS] * r(np.sqrt(TINY.width))), "embed")
    final = one["text.final_norm"][0].astype(np.float32)
    assert_rounded(final, norm(last, r(params.final_norm)), "final norm")
    assert_rounded(one["text.logits"][0].astype(np.float32), r(final @ table.T), "logits", 0.99)
    # the backends differ in one rounding, and are told apart
    [other] = CUBES.keys() - {backend}
    with pytest.raises(AssertionError, match=r"ffn\.act"):
        assert_stepwise(one, params, CUBES[other])
