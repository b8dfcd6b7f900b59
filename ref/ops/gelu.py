"""GeGLU: the gated activation of the feed-forward block, with the tanh form of GELU."""

import numpy as np

from ref.ops.jit import kernel
from ref.ops.simd import exp, fma, like, where_less
from ref.ops.team import Divided

SQRT_2_OVER_PI = 0.7978845608028654
CUBIC = 0.044715


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """Multiply by an approximation of the normal distribution's cumulative probability.

        gelu(x) = x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))

    Args:
        x: [...] float.

    Returns:
        [...] x.dtype.

    Rounding: float64 inside; one rounding to x.dtype on return.
    Source: Hendrycks & Gimpel 2016, the tanh form; `gelu_pytorch_tanh` in every Gemma 3 config.
    Differs: the exact (erf) form is up to 4.73e-4 away, at |x| = 2.70.
    """
    wide = x.astype(np.float64)
    return (0.5 * wide * (1.0 + np.tanh(SQRT_2_OVER_PI * (wide + CUBIC * wide**3)))).astype(x.dtype)


def geglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Gate the up projection: the only non-linearity of the feed-forward block.

        act[..., f] = gelu(gate[..., f]) * up[..., f]

    Args:
        gate: [..., F] float.
        up: [..., F] float, same dtype.

    Returns:
        [..., F], gate.dtype.

    Rounding: float64 inside; one rounding on return.
    Source: Shazeer 2020; transformers 5.23 `Gemma3MLP`.
    Differs: implementations round gelu(gate) to the activation dtype before the product; shows in bfloat16.
    """
    wide = gate.astype(np.float64)
    return (gelu_tanh(wide) * up.astype(np.float64)).astype(gate.dtype)


PIECE = 8_192  # elements a thread takes at once


@kernel(inline="always")
def _gelu(x):
    # 1 + tanh(u) = 2 / (1 + exp(-2u)), and with e = exp(-2|u|) nothing overflows: x / (1 + e), below 0 x e / (1 + e).
    # All in x's dtype; in float32 that is within 2 ulp above 0 and within 5.1e-8 below, where 1 + tanh(u) would cancel
    one = like(x, 1.0)
    twice_u = x * fma(x * x, like(x, 2 * SQRT_2_OVER_PI * CUBIC), like(x, 2 * SQRT_2_OVER_PI))
    e = exp(-abs(twice_u))
    return x * where_less(x, like(x, 0.0), e, one) / (one + e)


@Divided
@kernel
def _gelu_part(start, stop, x, out):
    some, place = x[start:stop], out[start:stop]
    for i in range(some.size):
        place[i] = _gelu(some[i])


def gelu_tanh_jit(x: np.ndarray) -> np.ndarray:
    """Kernel of `gelu_tanh`: one element at a time, in x's dtype."""
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty_like(flat)
    _gelu_part(flat.size, PIECE, flat, out)
    return out.reshape(x.shape)


@Divided
@kernel
def _geglu_part(start, stop, gate, up, out):
    g, u, place = gate[start:stop], up[start:stop], out[start:stop]
    for i in range(g.size):
        place[i] = _gelu(np.float64(g[i])) * np.float64(u[i])


def geglu_jit(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Kernel of `geglu`: one element at a time, float64 inside."""
    flat = np.ascontiguousarray(gate).reshape(-1)
    out = np.empty_like(flat)
    _geglu_part(flat.size, PIECE, flat, np.ascontiguousarray(up).reshape(-1), out)
    return out.reshape(gate.shape)
