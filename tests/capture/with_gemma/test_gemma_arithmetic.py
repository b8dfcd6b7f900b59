"""google-deepmind/gemma's numbers in bfloat16 are made by the arithmetic that the module says."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from support.captures import distance, passes_of
from support.gemma_captures import IDS, needs_gemma, only_pass, running

from ref.config import SIZES
from ref.model.tap_rows import LAYER_TAPS
from ref.ops.linear import widen
from ref.weights.synthetic import synthetic_params

TINY = SIZES["tiny"]


def r(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def stepwise_norm(x, weight, compiled):
    square = x * x if compiled else r(x * x)
    v = r(r(square.mean(-1, keepdims=True, dtype=np.float32)) + r(1e-6))
    return r(r(x * r(1 / np.sqrt(v))) * r(1 + weight))


def stepwise_softmax(s, seen, compiled):
    s = np.where(seen, s, r(-2.3819763e38))
    e = np.exp(r(s - s.max(-1, keepdims=True)))
    return r(r(e) / r((e if compiled else r(e)).sum(-1, keepdims=True, dtype=np.float32)))


def stepwise_gelu(x):
    inner = r(r(np.sqrt(2 / np.pi)) * r(x + r(r(0.044715) * r(r(x * x) * x))))
    return r(x * r(np.float32(0.5) * r(1 + r(np.tanh(inner)))))


def rotated(x, positions, config, layer):
    base, factor = config.rope(layer)
    steps = np.float32(base) ** (np.arange(config.head_dim // 2, dtype=np.float32) * np.float32(2 / config.head_dim))
    angle = positions.astype(np.float32)[:, None] / steps / np.float32(factor)
    (a, b), cos, sin = np.split(x, 2, -1), np.cos(angle)[:, None], np.sin(angle)[:, None]
    return r(np.concatenate([a * cos - b * sin, b * cos + a * sin], -1))


def assert_nearly(got, wanted, tap):
    """Assert one r() of a float32 that may be an ulp off and so fall to the other side, a few times in thousands."""
    assert (got == wanted).mean() > 0.99, tap
    assert distance(got, wanted) < 2e-4, tap


def assert_stepwise(one, params, compiled):
    """Assert that each value follows from the captured ones before it: to the bit, but for rotations and products."""
    c = params.config
    for i, layer in enumerate(params.layers):
        v = {name: one[f"text.layer.{i}.{name}"][0] for name in LAYER_TAPS if f"text.layer.{i}.{name}" in one}
        v = {name: value if value.dtype == np.int64 else value.astype(np.float32) for name, value in v.items()}
        places = np.arange(len(v["in"]))
        wanted = {
            "attn.pre_norm": stepwise_norm(v["in"], r(layer.pre_attn_norm), compiled),
            "attn.q_norm": stepwise_norm(v["attn.q"], r(layer.q_norm), compiled),
            "attn.k_norm": stepwise_norm(v["attn.k"], r(layer.k_norm), compiled),
            "attn.post_norm": stepwise_norm(v["attn.out"], r(layer.post_attn_norm), compiled),
            "mid": r(v["in"] + v["attn.post_norm"]),
            "ffn.pre_norm": stepwise_norm(v["mid"], r(layer.pre_ffn_norm), compiled),
            "ffn.act": r(stepwise_gelu(v["ffn.gate"]) * v["ffn.up"]),
            "ffn.post_norm": stepwise_norm(v["ffn.out"], r(layer.post_ffn_norm), compiled),
            "out": r(v["mid"] + v["ffn.post_norm"]),
        }
        start, stop = v["attn.visible"].T[:, :, None]
        wanted["attn.probs"] = stepwise_softmax(v["attn.scores"], (places >= start) & (places < stop), compiled)
        for name, value in wanted.items():
            np.testing.assert_array_equal(v[name], value, err_msg=f"layer {i} {name}")
        for name in "qk":  # powers, sines and cosines of NumPy are not XLA's to the ulp
            assert_nearly(
                v[f"attn.{name}_rope"], rotated(v[f"attn.{name}_norm"], places, c, i), f"layer {i} {name}_rope"
            )
        keys, values = (np.repeat(v[name], c.query_heads // c.kv_heads, axis=1) for name in ("attn.k_rope", "attn.v"))
        scores = np.einsum("tnh,snh->nts", r(v["attn.q_rope"] * r(c.query_scale)), keys)
        assert distance(v["attn.scores"], r(scores)) < 2e-4
        assert distance(v["attn.mix"], r(np.einsum("nts,snh->tnh", v["attn.probs"], values))) < 2e-4
        for tap, (source, weight) in {
            "attn.q": ("attn.pre_norm", layer.q), "attn.k": ("attn.pre_norm", layer.k),
            "attn.v": ("attn.pre_norm", layer.v), "attn.out": ("attn.mix", layer.attn_out),
            "ffn.gate": ("ffn.pre_norm", layer.gate), "ffn.up": ("ffn.pre_norm", layer.up),
            "ffn.out": ("ffn.act", layer.down),
        }.items():  # fmt: skip
            x = v[source].reshape(len(places), -1)
            assert_nearly(v[tap], r(x @ r(widen(weight)).T).reshape(v[tap].shape), tap)


@needs_gemma
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "op by op"])
def test_bfloat16_rounds_where_the_module_says(tmp_path, parts, compiled):
    params, model = synthetic_params(TINY, 0, bfloat16=False), running(parts, "bfloat16")
    one = only_pass(model, tmp_path / "dump", compiled=compiled)
    assert_stepwise(one, params, compiled)
    table, last = r(widen(params.embedding)), one["text.layer.6.out"][0].astype(np.float32)
    np.testing.assert_array_equal(one["text.embed"][0].astype(np.float32), r(table[IDS] * r(np.sqrt(TINY.width))))
    final = one["text.final_norm"][0].astype(np.float32)
    np.testing.assert_array_equal(final, stepwise_norm(last, r(params.final_norm), compiled))
    assert distance(one["text.logits"][0].astype(np.float32), r(final @ table.T)) < 2e-4
    # the two ways differ, and are told apart: without this the test would pass with either emulation
    with pytest.raises(AssertionError):
        assert_stepwise(one, params, not compiled)


EXACT = """
import sys
from pathlib import Path
from ref.capture.gemma import capture_weights
capture_weights("tiny", [[int(x) for x in sys.argv[2].split(",")]], Path(sys.argv[1]), dtype="bfloat16")
"""


@needs_gemma
def test_compiled_without_excess_precision_it_makes_every_rounding(tmp_path):
    flags = os.environ | {"XLA_FLAGS": "--xla_allow_excess_precision=false", "JAX_PLATFORMS": "cpu"}
    run = [sys.executable, "-c", EXACT, str(tmp_path / "dump"), ",".join(map(str, IDS))]
    subprocess.run(run, check=True, capture_output=True, env=flags)
    [one] = passes_of(tmp_path / "dump")
    params = synthetic_params(TINY, 0, bfloat16=False)
    assert_stepwise(one, params, False)
    with pytest.raises(AssertionError):
        assert_stepwise(one, params, True)
