"""Mistakes in the feed-forward network."""

from math import erf, sqrt

import numpy as np

from ref.emulate.text_rules import LAYER
from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs
from ref.ops.jit import kernel

ACT = LAYER + "ffn.act"


@kernel(error_model="python")
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


FFN_MUTANTS = [
    TapMutant(
        name="gelu_erf",
        what="GELU is the exact one instead of the tanh form.",
        needs=Needs(bfloat16_tokens=300),
        rules=_gated(gelu_erf),
        subtle=True,
    ),
    TapMutant(
        name="gelu_quick",
        what="GELU is x sigmoid(1.702 x).",
        needs=Needs(),
        rules=_gated(lambda x: x * _sigmoid(1.702 * x)),
    ),
    TapMutant(
        name="gelu_without_factor",
        what="tanh lacks its factor sqrt(2 / pi).",
        needs=Needs(),
        rules=_gated(_unscaled_tanh),
    ),
    TapMutant(
        name="ffn_silu",
        what="The gate goes through SiLU, as in Llama.",
        needs=Needs(),
        rules=_gated(lambda x: x * _sigmoid(x)),
    ),
    TapMutant(
        name="ffn_relu",
        what="The gate goes through ReLU.",
        needs=Needs(),
        rules=_gated(lambda x: np.maximum(x, 0)),
    ),
    TapMutant(
        name="ffn_no_activation",
        what="The gate is not activated.",
        needs=Needs(),
        rules=_gated(lambda x: x),
    ),
    TapMutant(
        name="gate_up_swapped",
        what="Up is activated and gate is not, as from a fused array read wrongly.",
        needs=Needs(),
        rules={ACT: lambda at: at.ops.geglu(at["ffn.up"], at["ffn.gate"])},
    ),
    TapMutant(
        name="gate_up_projections_swapped",
        what="The weights of gate and up stand in each other's place.",
        needs=Needs(),
        rules={
            LAYER + "ffn.gate": lambda at: at.ops.linear(at["ffn.pre_norm"], at.weights.up),
            LAYER + "ffn.up": lambda at: at.ops.linear(at["ffn.pre_norm"], at.weights.gate),
        },
    ),
    TapMutant(
        name="gate_missing",
        what="Only up is activated: there is no gate.",
        needs=Needs(),
        rules={ACT: lambda at: at.ops.gelu(at["ffn.up"])},
    ),
    TapMutant(
        name="gelu_of_product",
        what="GELU is applied to the product of gate and up.",
        needs=Needs(),
        rules={ACT: lambda at: at.ops.gelu(at["ffn.gate"] * at["ffn.up"])},
    ),
]
