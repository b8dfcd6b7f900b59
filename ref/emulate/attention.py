"""Rotation and attention as a policy computes them."""

import numpy as np

from ref.emulate.loops import plain_sum
from ref.emulate.operands import OPERANDS, as_it_is, to_float16
from ref.emulate.products import PLAIN, Products
from ref.ops import KERNEL

POWER = 1.5 * 2.0**-24  # relative error of a power and its inverse in float32: torch's is 1.4, NumPy's 2 of 2^-24
FEW = 8  # tokens up to which two runs have angles that are an ulp off
LOG2_E = 1.4426950408889634
FLASH_TILE = 64  # queries from which on llama.cpp's fused attention keeps its sums in float32


class Attention(Products):
    """Positions, scores, weights and what they mix, of one policy in one order."""

    def table(self, positions: np.ndarray, head_dim: int, base: float, factor: float) -> tuple[np.ndarray, np.ndarray]:
        """Return cosines and sines of each position's angles."""
        if self.policy.angle == "recurrence":
            theta = np.full((*np.shape(positions), head_dim // 2), np.float32(base) ** np.float32(-2 / head_dim))
            theta[..., 0] = positions
            angle = np.multiply.accumulate(theta, axis=-1) * np.float32(1 / factor)
        else:
            j = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
            power, scale = np.float32(base), np.float32(factor)
            at = np.asarray(positions)[..., None].astype(np.float32)
            ways = (
                lambda: at * (1 / power**j / scale),
                lambda: at / power**j / scale,
                lambda: at * (power**-j / scale),
            )
            angle = ways[self.order % 3]()
            if self.order >= PLAIN:
                angle *= 1 + (1 if self.other else -1) * _power_errors(power, head_dim)
            if at.size <= FEW and self.order >= PLAIN:  # of few angles all roundings may agree by chance
                angle = np.nextafter(angle, np.float32(np.inf if self.other else -np.inf))
        cos, sin = np.cos(angle), np.sin(angle)
        return (self.round(cos), self.round(sin)) if self.policy.trig == "stored" else (cos, sin)

    def rotate(self, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        """Turn pairs by their angles."""
        narrowed = OPERANDS[self.policy.rotation]
        low, high = np.split(narrowed(x), 2, axis=-1)
        product = self.round if self.policy.trig == "stored" else as_it_is
        cos, sin = cos[:, :, None], sin[:, :, None]
        turned = [product(low * cos) - product(high * sin), product(high * cos) + product(low * sin)]
        return self.round(narrowed(np.concatenate(turned, axis=-1)))

    def scores(self, q: np.ndarray, k: np.ndarray, scale: float) -> np.ndarray:
        """Multiply queries with keys and scale."""
        order, factor = self.shuffle(q.shape[-1]), np.array([scale], np.float32)
        if order is not None:
            q, k = np.take(q, order, axis=-1), np.take(k, order, axis=-1)
        if self.policy.scaled == "q":
            # JAX rounds a Python float to the array's format first; 15^-1/2 and 168^-1/2 change
            return self.fine(self.attended(self.fine(q * self.round(factor)), k))
        return self.fine(self.fine(self.attended(q, k)) * factor)

    def attended(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Multiply queries with the keys of their group."""
        (B, T, N, H), (S, K) = q.shape, k.shape[1:3]
        q = self.operand(q)
        if self.policy.operands != "stored" and self.rounded_here(T):
            q, k = OPERANDS[self.policy.operands](q), OPERANDS[self.policy.operands](k)
        grouped = q.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4).reshape(B, K, N // K * T, H)
        return self.multiply(grouped, k.transpose(0, 2, 3, 1)).reshape(B, N, T, S)

    def softmax(self, scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Turn the scores of keys that are seen into weights that sum to 1."""
        rounded = self.round if self.policy.softmax == "stored" else as_it_is
        wide = np.where(seen[:, None], scores, np.float32(-np.inf))
        largest = wide.max(axis=-1, keepdims=True)
        wide = rounded(wide - np.where(np.isfinite(largest), largest, 0))
        weights = np.exp2(wide * np.float32(LOG2_E)) if self.other else np.exp(wide)
        parts = weights if self.other else rounded(weights)
        total = rounded(parts.sum(axis=-1, keepdims=True) if self.order < PLAIN else plain_sum(parts))
        weights = rounded(weights)
        total = np.where(total == 0, 1, total)
        return self.fine(weights * (1 / total) if self.other else weights / total)

    def mix(self, probs: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Add values by their weights, in the format of products."""
        return self.product(self.added(probs, v))

    def added(self, probs: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Add values by their weights, in float32."""
        (B, N, T, S), (K, H) = probs.shape, v.shape[2:]
        order = self.shuffle(S)
        if order is not None:
            probs, v = np.take(probs, order, axis=-1), np.take(v, order, axis=1)
        probs = self.operand(probs)
        if self.policy.operands != "stored" and self.rounded_here(T):
            probs, v = OPERANDS[self.policy.operands](probs), OPERANDS[self.policy.operands](v)
        grouped = self.multiply(probs.reshape(B, K, N // K * T, S), v.transpose(0, 2, 1, 3))
        return grouped.reshape(B, N, T, H).transpose(0, 2, 1, 3)

    def attend(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, scale: float) -> np.ndarray:
        """Attend without showing scores or weights."""
        if self.policy.attention == "flash":
            return self.flash(self.scores(q, k, scale), v, seen)
        probs = self.softmax(self.scores(q, k, scale), seen)
        if self.policy.attention_operands == "float16" and self.policy.attention == "fused":
            return _mix_by_keys(probs, v) if q.shape[1] < FLASH_TILE else KERNEL.mix(probs, v)
        return self.mix(probs, v)

    def flash(self, scores: np.ndarray, v: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Round weights to the format before they are divided by their sum, as FlashAttention's tiles do."""
        wide = np.where(seen[:, None], scores, np.float32(-np.inf))
        largest = wide.max(axis=-1, keepdims=True)
        weights = np.exp(wide - np.where(np.isfinite(largest), largest, 0))
        total = weights.sum(axis=-1)
        mixed = self.added(self.round(weights), v)  # B T N H
        return self.product(mixed / np.where(total == 0, 1, total).transpose(0, 2, 1)[..., None])


def _mix_by_keys(probs, v):
    """Add values key by key in float16, as llama.cpp's fused attention does for few queries."""
    groups = probs.shape[1] // v.shape[2]
    most = np.maximum(probs.max(axis=-1, keepdims=True), np.float32(1e-30))
    weights = to_float16(probs / most)
    total = np.zeros((*probs.shape[:3], v.shape[-1]), np.float32)  # B N T H
    for s in range(probs.shape[-1]):
        if weights[..., s].any():
            value = np.repeat(v[:, s], groups, axis=1)[:, :, None]
            total = to_float16(total + weights[..., s, None] * value)
    return np.ascontiguousarray((total * most).transpose(0, 2, 1, 3))


def _power_errors(base, head_dim: int):
    """Bound the relative error of base^(2j/H) in float32: of an exponent that float32 does not hold, and of the power.

    Where few frequencies decide, as with a head of 12, all libraries of one machine may agree by chance.
    """
    exponent = np.arange(0, head_dim, 2) / head_dim
    rounded = np.abs(exponent.astype(np.float32) - exponent)
    return (np.log(np.float64(base)) * rounded + POWER).astype(np.float32)
