"""Ordinary low-precision arithmetic: the operations as implementations really run them, by policy and in any order.

Arrays are float32 and hold values of the policy's format; each function rounds where the policy says. The reference's
own kernels are no measure of what float32 must cost, since they are wider inside.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ref.ops import KERNEL
from ref.ops.gelu import CUBIC, SQRT_2_OVER_PI
from ref.ops.linear import take_rows, widen
from ref.ops.rope import rope_table
from ref.ops.rounding import bfloat16_values
from ref.verify.policy import Policy


class Arithmetic(NamedTuple):
    """The operations as the judge calls them: those of `ref.ops`, and what lies between them."""

    dtype: Any  # of the arrays
    embed: Callable
    rms_norm: Callable
    linear: Callable
    table: Callable  # positions, H, base, factor -> cos, sin
    rotate: Callable
    scores: Callable
    softmax: Callable
    mix: Callable
    attend: Callable
    geglu: Callable
    gelu: Callable
    layer_norm: Callable
    average_pool: Callable
    add: Callable
    keep: Callable  # keys and values, as the cache holds them
    round: Callable  # any value to the format between operations


def _same(x):
    return x


def _attend(q, k, v, seen, scale):
    scores = KERNEL.scores(q, k, scale)
    return KERNEL.mix(KERNEL.softmax(scores, seen), v)


TRUTH = Arithmetic(
    np.float64,
    partial(KERNEL.embed, dtype=np.float64),
    KERNEL.rms_norm,
    KERNEL.linear,
    partial(rope_table, dtype=np.float64),
    KERNEL.rotate,
    KERNEL.scores,
    KERNEL.softmax,
    KERNEL.mix,
    _attend,
    KERNEL.geglu,
    KERNEL.gelu,
    KERNEL.layer_norm,
    KERNEL.average_pool,
    np.add,
    _same,
    _same,
)


def to_float16(x):
    """Round to float16 and stay in float32; what is above 65,504 becomes infinite, as it does there."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


ROUND: dict[str, Callable] = {"float32": _same, "bfloat16": bfloat16_values, "float16": to_float16}


def emulate(policy: Policy, order: int) -> Arithmetic:
    """Return the operations of a policy, summing in one order.

    Args:
        policy: where to round.
        order: 0 sums as the axes lie; any other number permutes each summed axis, consistently.

    Source: `ref.verify.policy`; ARCHITECTURE, noise floor.
    Differs: permuting the axes of a model's weights instead gives the same sums.
    """
    if policy.stored == "float64":
        return TRUTH
    e = _Emulation(policy, order)
    return Arithmetic(
        np.float32,
        e.embed,
        e.rms_norm,
        e.linear,
        e.table,
        e.rotate,
        e.scores,
        e.softmax,
        e.mix,
        e.attend,
        e.geglu,
        e.gelu,
        e.layer_norm,
        e.average_pool,
        e.add,
        e.keep,
        e.r,
    )


class _Emulation:
    """The operations of one policy in one order; `r` rounds to the format between operations."""

    def __init__(self, policy: Policy, order: int):
        self.p, self.order = policy, order
        self.r = ROUND[policy.stored]
        self.fine = self.r if policy.attention == "steps" else _same
        self.keep = self.r if policy.keys == "stored" else ROUND[policy.keys]

    def shuffle(self, length):
        """Return the order in which an axis is summed, None as it lies."""
        return np.random.default_rng([self.order, length]).permutation(length) if self.order else None

    def embed(self, ids, table, scale):
        scale = np.float32(scale)
        scale = self.r(np.array([scale]))[0] if self.p.embed_scale == "stored" else scale
        unique, place = np.unique(ids, return_inverse=True)
        rows = self.r(widen(take_rows(table, unique)).astype(np.float32) * scale)
        return rows[place.reshape(ids.shape)]

    def mean(self, x):
        order = self.shuffle(x.shape[-1])
        x = x if order is None else x[..., order]
        return np.mean(x, axis=-1, keepdims=True, dtype=np.float32)

    def rms_norm(self, x, scale, eps):
        scale, eps = np.asarray(scale, np.float32), np.float32(eps)
        if self.p.norm == "stored":
            r = self.r
            inverse = r(1 / np.sqrt(r(r(self.mean(r(x * x))) + eps)))
            return r(r(x * inverse) * r(1 + scale))
        return self.r(x * (1 / np.sqrt(self.mean(x * x) + eps)) * (1 + scale))

    def layer_norm(self, x, gain, bias, eps):
        centred = x - self.mean(x)
        inverse = 1 / np.sqrt(self.mean(centred * centred) + np.float32(eps))
        return self.r(centred * inverse * np.asarray(gain, np.float32) + np.asarray(bias, np.float32))

    def linear(self, x, weight, bias=None):
        order = self.shuffle(x.shape[-1])
        rows, weight = x.reshape(-1, x.shape[-1]), widen(weight)
        if order is not None:
            rows, weight = rows[:, order], np.take(weight, order, axis=1)
        y = rows @ weight.T.astype(np.float32, copy=False)
        y = y if bias is None else y + widen(bias).astype(np.float32, copy=False)
        return self.r(y).reshape(*x.shape[:-1], -1)

    def table(self, positions, head_dim, base, factor):
        if self.p.angle == "float64":
            cos, sin = rope_table(positions, head_dim, base, factor, np.float32)
        else:
            j = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
            frequency = 1 / (np.float32(base) ** j) / np.float32(factor)
            angle = np.asarray(positions)[..., None].astype(np.float32) * frequency
            cos, sin = np.cos(angle), np.sin(angle)
        return (self.r(cos), self.r(sin)) if self.p.trig == "stored" else (cos, sin)

    def rotate(self, x, cos, sin):
        low, high = np.split(x, 2, axis=-1)
        r = self.r if self.p.trig == "stored" else _same
        c, s = cos[:, :, None], sin[:, :, None]
        return self.r(np.concatenate([r(low * c) - r(high * s), r(high * c) + r(low * s)], axis=-1))

    def scores(self, q, k, scale):
        order, scale = self.shuffle(q.shape[-1]), np.float32(scale)
        if order is not None:
            q, k = q[..., order], k[..., order]
        if self.p.scaled == "q":
            return self.fine(_products(self.fine(q * scale), k))
        return self.fine(self.fine(_products(q, k)) * scale)

    def softmax(self, scores, seen):
        wide = np.where(seen[:, None], scores, np.float32(-np.inf))
        largest = wide.max(axis=-1, keepdims=True)
        weights = np.exp(wide - np.where(np.isfinite(largest), largest, 0))
        total = weights.sum(axis=-1, keepdims=True)
        return self.fine(weights / np.where(total == 0, 1, total))

    def mix(self, probs, v):
        (B, N, T, S), (K, H) = probs.shape, v.shape[2:]
        order = self.shuffle(S)
        if order is not None:
            probs, v = probs[..., order], v[:, order]
        grouped = probs.reshape(B, K, N // K * T, S) @ v.transpose(0, 2, 1, 3)
        return self.r(grouped.reshape(B, N, T, H).transpose(0, 2, 1, 3))

    def attend(self, q, k, v, seen, scale):
        return self.mix(self.softmax(self.scores(q, k, scale), seen), v)

    def gelu(self, x):
        return self.r(_gelu(x))

    def geglu(self, gate, up):
        if self.p.gelu == "float16 table":
            g = np.where(gate >= 10, gate, np.where(gate <= -10, np.float32(0), to_float16(_gelu(to_float16(gate)))))
        else:
            g = _gelu(gate)
        return self.r((self.r(g) if self.p.gate == "rounded" else g) * up)

    def average_pool(self, x, pool):
        side = int(x.shape[1] ** 0.5)
        squares = x.reshape(x.shape[0], side // pool, pool, side // pool, pool, x.shape[2])
        return self.r(squares.mean(axis=(2, 4), dtype=np.float32)).reshape(x.shape[0], -1, x.shape[2])

    def add(self, a, b):
        return self.r(a + b)


def _gelu(x):
    inner = np.float32(SQRT_2_OVER_PI) * (x + np.float32(CUBIC) * x * x * x)
    return np.float32(0.5) * x * (1 + np.tanh(inner))


def _products(q, k):
    (B, T, N, H), (S, K) = q.shape, k.shape[1:3]
    grouped = q.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4).reshape(B, K, N // K * T, H)
    return (grouped @ k.transpose(0, 2, 3, 1)).reshape(B, N, T, S)
