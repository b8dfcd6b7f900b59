"""The operations of a policy, in one order: all that a record of `ref.emulate.arithmetic` holds."""

import numpy as np

from ref.emulate.attention import Attention
from ref.emulate.operands import to_float16
from ref.ops.gelu import CUBIC, SQRT_2_OVER_PI
from ref.ops.linear import Weight, take_rows, widen

RATIONAL, SATURATED = np.float32(2.6e-7), 7.9  # largest error of XLA's tanh, measured; from where on it is 1


class Operations(Attention):
    """Embedding, norms, activations and sums, beside the products and the attention below them."""

    def embed(self, ids: np.ndarray, table: Weight, scale: float) -> np.ndarray:
        """Look tokens up and scale them."""
        factor = self.round(np.array([scale], np.float32))
        unique, place = np.unique(ids, return_inverse=True)
        rows = self.round(widen(take_rows(table, unique)).astype(np.float32) * factor)
        return rows[place.reshape(ids.shape)]

    def rms_norm(self, x: np.ndarray, scale: np.ndarray, eps: float) -> np.ndarray:
        """Normalise by the root mean square."""
        scale, small = np.asarray(scale, np.float32), np.float32(eps)
        if self.policy.norm == "stored":
            rounded = self.round
            square = x * x if self.other else rounded(x * x)  # compilers keep what is only summed in float32
            inverse = rounded(1 / np.sqrt(rounded(rounded(self.mean(square)) + rounded(np.array([small])))))
            return rounded(rounded(x * inverse) * rounded(1 + scale))
        if self.policy.norm == "gain apart":
            return self.round(self.round(x * (1 / np.sqrt(self.mean(x * x) + small))) * self.round(1 + scale))
        root = np.sqrt(self.mean(x * x) + small)
        return self.round(x / root * (1 + scale) if self.other else x * (1 / root * (1 + scale)))

    def layer_norm(self, x: np.ndarray, gain: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
        """Normalise by mean and variance."""
        centred = x - self.mean(x)
        inverse = 1 / np.sqrt(self.mean(centred * centred) + np.float32(eps))
        return self.round(centred * inverse * np.asarray(gain, np.float32) + np.asarray(bias, np.float32))

    def gelu(self, x: np.ndarray) -> np.ndarray:
        """Apply GELU, in the format of products."""
        return self.product(self.plain_gelu(x))

    def plain_gelu(self, x: np.ndarray) -> np.ndarray:
        """Apply GELU in float32, in one of its usual ways."""
        if self.policy.tanh == "rational":
            return _gelu(x, self.rational_tanh)
        return _gelu_by_exp(x) if self.other else _gelu(x)

    def rational_tanh(self, x: np.ndarray) -> np.ndarray:
        """Err as much as the quotient may, up or down: near tanh = -1 that is all that GELU leaves of its input."""
        y = np.tanh(x)
        return np.where(np.abs(x) < SATURATED, np.clip(y + (RATIONAL if self.other else -RATIONAL), -1, 1), y)

    def geglu(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Gate by GELU."""
        if self.policy.gelu == "float16 table":
            g = np.where(gate >= 10, gate, np.where(gate <= -10, np.float32(0), to_float16(_gelu(to_float16(gate)))))
        elif self.policy.gelu == "stored":
            g = self.stepwise_gelu(gate)
        else:
            g = self.plain_gelu(gate)
        return self.product(self.product(g) * up)

    def stepwise_gelu(self, x: np.ndarray) -> np.ndarray:
        """Round after each step, as google-deepmind/gemma's does in its parameters' dtype."""
        rounded = self.round
        cubic, root = (rounded(np.array([value], np.float32)) for value in (CUBIC, SQRT_2_OVER_PI))
        cube = rounded(x * x * x) if self.other else rounded(rounded(x * x) * x)  # a power is rounded once
        inner = rounded(root * rounded(x + rounded(cubic * cube)))
        return rounded(x * rounded(np.float32(0.5) * rounded(1 + rounded(np.tanh(inner)))))

    def average_pool(self, x: np.ndarray, pool: int) -> np.ndarray:
        """Average squares of patches."""
        side = int(x.shape[1] ** 0.5)
        squares = x.reshape(x.shape[0], side // pool, pool, side // pool, pool, x.shape[2])
        return self.round(squares.mean(axis=(2, 4), dtype=np.float32)).reshape(x.shape[0], -1, x.shape[2])

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Add what a part of the model made to the residual stream."""
        if self.policy.fused:  # b is taken before it was rounded: somewhere within half a step of what the dump holds
            b = b + np.spacing(b).astype(np.float64) * (np.random.default_rng(self.order).random(b.shape) - 0.5)
            return (a + b).astype(np.float32)
        return self.round(a + b)


def _gelu(x, tanh=np.tanh):
    inner = np.float32(SQRT_2_OVER_PI) * (x + np.float32(CUBIC) * x * x * x)
    return np.float32(0.5) * x * (1 + tanh(inner))


def _gelu_by_exp(x):
    """The same, since 1 + tanh(u) = 2 / (1 + exp(-2u))."""
    inner = np.float32(SQRT_2_OVER_PI) * (x + np.float32(CUBIC) * x * x * x)
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-2 * inner))
