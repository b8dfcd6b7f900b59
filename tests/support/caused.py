"""Wrong steps in the graph of `tiny`, written in plain NumPy, and what the judge says of dumps with them."""

import numpy as np
from support.judged import captured, dumped

import ref
from ref import compare
from ref.emulate.graph import RULES
from ref.emulate.text_rules import LAYER

LOCAL, GLOBAL = 3, 5  # layers of `tiny`


def report_of(rules, only=None, tokens=19, dtype="float32"):
    """Judge a dump with wrong steps in all layers, or in `only` one."""
    return compare(dumped(captured(rules, dtype, tokens, only), dtype), loaded=ref.load("tiny"))


def only_cause(report):
    """Return the one cause of a report, which must be named and proved."""
    assert report["verdict"] == "bug"
    assert [(one["mutant"], one["verdict"]) for one in report["causes"]] == [(report["causes"][0]["mutant"], "named")]
    assert report["proof"]["verdict"] == "explained", report["proof"]["says"]
    assert report["bases"] == []
    return report["causes"][0]


def values_of(cause):
    """Return name -> value of a cause's parameters."""
    return {one["name"]: one["value"] for one in cause["parameters"]}


def right(name):
    """Return the right step of a layer, or of the model, as a function of what it stands in."""
    return RULES[name if name in RULES else LAYER + name]


def normed(x, gain, epsilon=1e-6, plus=1.0):
    """Norm the last axis."""
    wide = x.astype(np.float64)
    return (wide / np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + epsilon) * (plus + gain)).astype(np.float32)


def table_of(at, positions=None, base=None, factor=None):
    """Return cosines and sines [B, T, 1, H / 2] of a layer, perhaps with other numbers."""
    own_base, own_factor = at.config.rope(at.layer)
    half = at.config.head_dim // 2
    frequencies = (base or own_base) ** (-np.arange(half) / half) / (factor or own_factor)
    angles = (at.one_pass.positions if positions is None else positions)[..., None] * frequencies
    return np.cos(angles)[:, :, None], np.sin(angles)[:, :, None]


def rotated(x, table):
    """Rotate pairs (j, j + H / 2)."""
    (cos, sin), half = table, x.shape[-1] // 2
    a, b = x[..., :half].astype(np.float64), x[..., half:].astype(np.float64)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(np.float32)


def product(x, weight):
    """Multiply rows by a weight [O, I]; heads in `x` are joined first."""
    flat = x.reshape(*x.shape[:2], -1).astype(np.float64)
    return (flat @ np.asarray(weight, np.float64).T).astype(np.float32)


def in_heads(x, length=10):
    """Split the last axis into heads."""
    return x.reshape(*x.shape[:-1], -1, length)


def weight_of(layer, field):
    """Return a weight of any layer of `tiny`."""
    return np.asarray(getattr(ref.load("tiny").params.layers[layer], field), np.float32)


def rounded(x):
    """Round to bfloat16: to nearest, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
