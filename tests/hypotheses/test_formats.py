"""A number format inside an operation, in a dump of float32: of weights, a sum, a variance, softmax."""

import ml_dtypes
import numpy as np
import pytest
from support.caused import LOCAL, in_heads, normed, only_cause, product, report_of, right, rounded, values_of

from ref.emulate.text_rules import LAYER

K, UP, DOWN, PROBS = (LAYER + name for name in ("attn.k", "ffn.up", "ffn.out", "attn.probs"))


def int8(w, axis):
    scale = np.abs(w).max(axis=axis, keepdims=True) / np.float32(127)
    return np.rint(w / scale) * scale


def float8(w):
    scale = np.abs(w).max() / np.float32(448)
    return (w / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


@pytest.mark.parametrize(
    ("change", "kind", "per"),
    [
        (rounded, "bfloat16", "value"),
        (lambda w: w.astype(np.float16), "float16", "value"),
        (lambda w: int8(w, None), "int8", "tensor"),
        (lambda w: int8(w, 1), "int8", "channel"),
        (float8, "float8", "tensor"),
    ],
)
def test_weights_that_are_rounded(change, kind, per):
    rule = {K: lambda at: in_heads(product(at["attn.pre_norm"], change(np.asarray(at.weights.k, np.float32))))}
    cause = only_cause(report_of(rule, LOCAL))
    assert (cause["mutant"], values_of(cause), cause["layers"]) == (
        "weights_rounded", {"format": kind, "per": per}, [LOCAL],
    )  # fmt: skip


def test_a_sum_that_is_kept_in_float16_after_each_block():
    def rule(at):
        x, w = at["ffn.act"].astype(np.float64), np.asarray(at.weights.down, np.float64)
        total = np.zeros((1, x.shape[1], len(w)), np.float16)
        for start in range(0, x.shape[-1], 16):
            part = (x[..., start : start + 16] @ w[:, start : start + 16].T).astype(np.float32).astype(np.float16)
            total = (total.astype(np.float32) + part.astype(np.float32)).astype(np.float16)
        return total.astype(np.float32)

    cause = only_cause(report_of({DOWN: rule}, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("accumulated_in", {"format": "float16", "block": 16})


def test_a_variance_that_is_rounded():
    def rule(at):
        x = at["mid"].astype(np.float32)
        mean = rounded(np.mean(x * x, axis=-1, keepdims=True)).astype(np.float64)
        gain = np.asarray(at.weights.pre_ffn_norm, np.float64)
        return (x / np.sqrt(mean + 1e-6) * (1 + gain)).astype(np.float32)

    cause = only_cause(report_of({LAYER + "ffn.pre_norm": rule}, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("variance_rounded", {"format": "bfloat16", "way": "mean"})


def test_a_right_norm_written_again_is_no_mistake():
    rule = {LAYER + "ffn.pre_norm": lambda at: normed(at["mid"], np.asarray(at.weights.pre_ffn_norm, np.float64))}
    report = report_of(rule, LOCAL)
    assert (report["verdict"], report["causes"], report["proof"]) == ("match", [], None)


def test_weights_of_attention_that_are_rounded():
    cause = only_cause(report_of({PROBS: lambda at: rounded(right(PROBS)(at))}, LOCAL))
    assert (cause["mutant"], values_of(cause)) == ("softmax_rounded", {"format": "bfloat16", "way": "output"})
