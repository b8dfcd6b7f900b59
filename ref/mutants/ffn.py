"""Mistakes in the feed-forward network."""

from math import erf, sqrt

import numpy as np
from numba import njit

from ref.emulate.text_rules import LAYER
from ref.mutants.base import TapMutant

ACT = LAYER + "ffn.act"


@njit(cache=True, nogil=True)
def _erf(x, out):
    for i in range(x.size):
        out[i] = erf(x[i])


def gelu_erf(x):
    """Return the exact GELU, in x's dtype: below 0 its sum cancels, as it does in other implementations."""
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty_like(flat)
    _erf(flat * x.dtype.type(sqrt(0.5)), out)
    return x * x.dtype.type(0.5) * (1 + out.reshape(x.shape))


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _gated(activation):
    return {ACT: lambda at: at.ops.round(activation(at["ffn.gate"]) * at["ffn.up"])}


def _unscaled_tanh(x):
    return 0.5 * x * (1 + np.tanh(x + 0.044715 * x**3))


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
FFN_MUTANTS = [
    TapMutant(
        "gelu_erf",
        "GELU is the exact one instead of the tanh form.",
        f"{S91} (15); {E14}",
        "any input; in bfloat16 a few hundred tokens",
        _gated(gelu_erf),
        True,
    ),
    TapMutant(
        "gelu_quick",
        "GELU is x sigmoid(1.702 x).",
        f"{S91} (36)",
        "any input",
        _gated(lambda x: x * _sigmoid(1.702 * x)),
    ),
    TapMutant(
        "gelu_without_factor", "tanh lacks its factor sqrt(2 / pi).", f"{S91} (15)", "any input", _gated(_unscaled_tanh)
    ),
    TapMutant(
        "ffn_silu",
        "The gate goes through SiLU, as in Llama.",
        f"{S91} (15)",
        "any input",
        _gated(lambda x: x * _sigmoid(x)),
    ),
    TapMutant(
        "ffn_relu", "The gate goes through ReLU.", f"{S91} (15)", "any input", _gated(lambda x: np.maximum(x, 0))
    ),
    TapMutant("ffn_no_activation", "The gate is not activated.", f"{S91} (15)", "any input", _gated(lambda x: x)),
    TapMutant(
        "gate_up_swapped",
        "Up is activated and gate is not, as from a fused array read wrongly.",
        f"{S91} (16)",
        "any input",
        {ACT: lambda at: at.ops.geglu(at["ffn.up"], at["ffn.gate"])},
    ),
    TapMutant(
        "gate_up_projections_swapped",
        "The weights of gate and up stand in each other's place.",
        f"{S91} (16)",
        "any input",
        {
            LAYER + "ffn.gate": lambda at: at.ops.linear(at["ffn.pre_norm"], at.weights.up),
            LAYER + "ffn.up": lambda at: at.ops.linear(at["ffn.pre_norm"], at.weights.gate),
        },
    ),
    TapMutant(
        "gate_missing",
        "Only up is activated: there is no gate.",
        f"{E14}",
        "any input",
        {ACT: lambda at: at.ops.gelu(at["ffn.up"])},
    ),
    TapMutant(
        "gelu_of_product",
        "GELU is applied to the product of gate and up.",
        f"{E14}",
        "any input",
        {ACT: lambda at: at.ops.gelu(at["ffn.gate"] * at["ffn.up"])},
    ),
]
