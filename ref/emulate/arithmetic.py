"""Ordinary low-precision arithmetic: the operations as implementations really run them, by policy and in any order.

Arrays are float32 and hold values of the policy's format; each function rounds where the policy says. The reference's
own kernels are no measure of what float32 must cost, since they are wider inside.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ref.emulate.chain import chain_product
from ref.emulate.operands import OPERANDS, kind_of, narrow_product, rounded_for, to_float16
from ref.emulate.policy import RUNS, Policy
from ref.ops import KERNEL
from ref.ops.gelu import CUBIC, SQRT_2_OVER_PI
from ref.ops.linear import ByRows, take_rows, widen, widen_jit
from ref.ops.rope import rope_table
from ref.ops.rounding import bfloat16_values


class Arithmetic(NamedTuple):
    """The operations as the judge calls them: those of `ref.ops`, and what lies between them."""

    dtype: Any  # of the arrays
    by_weight: bool  # weights are wanted as they lie in their file, since their format tells what inputs are rounded to
    embed: Callable
    rms_norm: Callable
    linear: Callable
    convolve: Callable  # patches of pixels with weights; a convolution elsewhere, whose precision is set apart
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
    stored: str = "float64"  # the format of values between operations
    rounding: tuple[str, ...] = ()  # how it rounds inside operations: runs that have it in common err alike
    formats: Mapping[str, str] = MappingProxyType({})  # tap group -> its format, where that is not `stored`


def _same(x):
    return x


def _attend(q, k, v, seen, scale):
    scores = KERNEL.scores(q, k, scale)
    return KERNEL.mix(KERNEL.softmax(scores, seen), v)


TRUTH = Arithmetic(
    dtype=np.float64,
    by_weight=False,
    embed=partial(KERNEL.embed, dtype=np.float64),
    rms_norm=KERNEL.rms_norm,
    linear=KERNEL.linear,
    convolve=KERNEL.linear,
    table=partial(rope_table, dtype=np.float64),
    rotate=KERNEL.rotate,
    scores=KERNEL.scores,
    softmax=KERNEL.softmax,
    mix=KERNEL.mix,
    attend=_attend,
    geglu=KERNEL.geglu,
    gelu=KERNEL.gelu,
    layer_norm=KERNEL.layer_norm,
    average_pool=KERNEL.average_pool,
    add=np.add,
    keep=_same,
    round=_same,
)


ROUND: dict[str, Callable] = {"float32": _same, "bfloat16": bfloat16_values, "float16": to_float16}


def emulate(policy: Policy, order: int) -> Arithmetic:
    """Return the operations of a policy, summing in one order.

    Args:
        policy: where to round.
        order: 0 sums as the axes lie; any other number permutes each summed axis, consistently. Odd ones also write
            softmax, norm, GELU and angles in the other usual way.

    Source: `ref.emulate.policy`; ARCHITECTURE, noise floor.
    Differs: permuting the axes of a model's weights instead gives the same sums.
    """
    if policy.stored == "float64":
        return TRUTH
    made = _Emulation(policy, order)
    rounding = (policy.norm, policy.gelu, policy.trig, policy.softmax, policy.scaled)
    formats = {} if policy.products == "stored" else dict.fromkeys(NORMS_OF_PRODUCTS, policy.products)
    return Arithmetic(
        dtype=np.float32,
        by_weight=policy.by_weight,
        embed=made.embed,
        rms_norm=made.rms_norm,
        linear=made.linear,
        convolve=made.convolve,
        table=made.table,
        rotate=made.rotate,
        scores=made.scores,
        softmax=made.softmax,
        mix=made.mix,
        attend=made.attend,
        geglu=made.geglu,
        gelu=made.gelu,
        layer_norm=made.layer_norm,
        average_pool=made.average_pool,
        add=made.add,
        keep=made.keep,
        round=made.round,
        stored=policy.stored,
        rounding=rounding,
        formats=formats,
    )


WEIGHTS_KEPT, MOST_KEPT = 8, 2**24  # weights of a layer whose values are kept, and how many values one may have
PLAIN = 4  # orders from which on sums are plain loops, one term after the other
# norms whose input is the result of a product: under autocast they return its format
_OF_PRODUCTS = ("attn.q_norm", "attn.k_norm", "attn.post_norm", "ffn.post_norm")
NORMS_OF_PRODUCTS = tuple(f"text.layer.*.{name}" for name in _OF_PRODUCTS)
RATIONAL, SATURATED = np.float32(2.6e-7), 7.9  # largest error of XLA's tanh, measured; from where on it is 1
POWER = 1.5 * 2.0**-24  # relative error of a power and its inverse in float32: torch's is 1.4, NumPy's 2 of 2^-24
FEW = 8  # tokens up to which two runs have angles that are an ulp off
LOG2_E = 1.4426950408889634
FLASH_TILE = 64  # queries from which on llama.cpp's fused attention keeps its sums in float32


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


class _Emulation:
    """The operations of one policy in one order; `round` rounds to the format between operations."""

    def __init__(self, policy: Policy, order: int):
        self.policy, self.order = policy, order
        self.other = order % 2 == 1  # the other usual way to write the same formula
        self.round = ROUND[policy.stored]
        self.product = self.round if policy.products == "stored" else ROUND[policy.products]
        self.fine = self.product if policy.attention == "steps" else _same
        self.operand = OPERANDS[policy.attention_operands]
        self.keep = self.round if policy.keys == "stored" else ROUND[policy.keys]
        self.ready: dict[tuple[int, str], tuple[Any, np.ndarray]] = {}

    def shuffle(self, length):
        """Return the order in which an axis is summed, None as it lies: in the last run too, but in a row."""
        if self.order in (0, RUNS - 1):  # a large value early makes every later sum round more
            return None
        return np.random.default_rng([self.order, length]).permutation(length)

    def shuffled(self, weight, order, operand: str):
        """Return a weight's operands with its inputs in an order; those of the newest few weights are kept."""
        key = id(weight), operand
        kept = self.ready.get(key)  # once: another thread may push it out
        if kept:
            return kept[1]
        values = OPERANDS[operand](widen_jit(weight).astype(np.float32, copy=False))
        values = values if order is None else np.take(values, order, axis=1)
        if values.size <= MOST_KEPT and not isinstance(weight, ByRows):  # the head is another object each time
            if len(self.ready) >= WEIGHTS_KEPT:
                self.ready.pop(next(iter(self.ready.copy())), None)
            self.ready[key] = weight, values  # the weight too, or another might be given its id
        return values

    def embed(self, ids, table, scale):
        scale = self.round(np.array([scale], np.float32))
        unique, place = np.unique(ids, return_inverse=True)
        rows = self.round(widen(take_rows(table, unique)).astype(np.float32) * scale)
        return rows[place.reshape(ids.shape)]

    def mean(self, x):
        if not self.order:
            return np.mean(x, axis=-1, keepdims=True, dtype=np.float32)
        return _plain_sum(x, self.shuffle(x.shape[-1])) / np.float32(x.shape[-1])

    def rms_norm(self, x, scale, eps):
        scale, eps = np.asarray(scale, np.float32), np.float32(eps)
        if self.policy.norm == "stored":
            rounded = self.round
            square = x * x if self.other else rounded(x * x)  # compilers keep what is only summed in float32
            inverse = rounded(1 / np.sqrt(rounded(rounded(self.mean(square)) + rounded(np.array([eps])))))
            return rounded(rounded(x * inverse) * rounded(1 + scale))
        if self.policy.norm == "gain apart":
            return self.round(self.round(x * (1 / np.sqrt(self.mean(x * x) + eps))) * self.round(1 + scale))
        root = np.sqrt(self.mean(x * x) + eps)
        return self.round(x / root * (1 + scale) if self.other else x * (1 / root * (1 + scale)))

    def layer_norm(self, x, gain, bias, eps):
        centred = x - self.mean(x)
        inverse = 1 / np.sqrt(self.mean(centred * centred) + np.float32(eps))
        return self.round(centred * inverse * np.asarray(gain, np.float32) + np.asarray(bias, np.float32))

    def linear(self, x, weight, bias=None):
        return self.project(x, weight, bias, self.policy.operands)

    def convolve(self, x, weight, bias=None):
        return self.project(x, weight, bias, self.policy.convolution)

    def project(self, x, weight, bias, operand: str):
        order = self.shuffle(x.shape[-1])
        rows = x.reshape(-1, x.shape[-1])
        operand = operand if self.rounded_here(len(rows)) else "stored"
        rows = OPERANDS[operand](rows)
        if order is not None and math.prod(weight.shape) > MOST_KEPT and not self.policy.by_weight:
            y = self.multiply_large(rows, OPERANDS[operand](widen_jit(weight).astype(np.float32, copy=False)), order)
        else:
            rows = rows if order is None else np.take(rows, order, axis=1)
            rows = rounded_for(rows, kind_of(weight)) if self.policy.by_weight else rows
            y = self.multiply(rows, self.shuffled(weight, order, operand).T)
        y = y if bias is None else y + widen(bias).astype(np.float32, copy=False)
        return self.product(y).reshape(*x.shape[:-1], -1)

    def multiply_large(self, rows, weight, order):
        """Multiply with a weight that is too large to be permuted for each run: the sum is split in three instead."""
        if self.policy.sums != "float32":
            return narrow_product(rows, weight.T, self.policy.sums)
        if self.order >= PLAIN:
            return chain_product(rows, weight, order)
        cuts = [0, *sorted(order[:2].tolist()), len(order)]
        parts = (rows[:, a:b] @ weight[:, a:b].T for a, b in itertools.pairwise(cuts))
        return sum(parts, np.float32(0))

    def multiply(self, a, b):
        """Multiply [..., T, I] by [..., I, O] with the sums of the policy and of the order."""
        if self.policy.sums != "float32":
            return narrow_product(a, b, self.policy.sums)
        return _in_chains(a, b) if self.order >= PLAIN else a @ b

    def table(self, positions, head_dim, base, factor):
        if self.policy.angle == "recurrence":
            theta = np.full((*np.shape(positions), head_dim // 2), np.float32(base) ** np.float32(-2 / head_dim))
            theta[..., 0] = positions
            angle = np.multiply.accumulate(theta, axis=-1) * np.float32(1 / factor)
        else:
            j = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
            base, factor, at = np.float32(base), np.float32(factor), np.asarray(positions)[..., None].astype(np.float32)
            ways = (
                lambda: at * (1 / base**j / factor),
                lambda: at / base**j / factor,
                lambda: at * (base**-j / factor),
            )
            angle = ways[self.order % 3]()
            if self.order >= PLAIN:
                angle *= 1 + (1 if self.other else -1) * _power_errors(base, head_dim)
            if at.size <= FEW and self.order >= PLAIN:  # of few angles all roundings may agree by chance
                angle = np.nextafter(angle, np.float32(np.inf if self.other else -np.inf))
        cos, sin = np.cos(angle), np.sin(angle)
        return (self.round(cos), self.round(sin)) if self.policy.trig == "stored" else (cos, sin)

    def rotate(self, x, cos, sin):
        narrowed = OPERANDS[self.policy.rotation]
        low, high = np.split(narrowed(x), 2, axis=-1)
        product = self.round if self.policy.trig == "stored" else _same
        cos, sin = cos[:, :, None], sin[:, :, None]
        turned = [product(low * cos) - product(high * sin), product(high * cos) + product(low * sin)]
        return self.round(narrowed(np.concatenate(turned, axis=-1)))

    def rounded_here(self, rows: int) -> bool:
        """Tell whether operands of a product of so many rows are rounded: of one row some libraries' are not."""
        return rows > 1 or not self.other

    def scores(self, q, k, scale):
        order, scale = self.shuffle(q.shape[-1]), np.array([scale], np.float32)
        if order is not None:
            q, k = np.take(q, order, axis=-1), np.take(k, order, axis=-1)
        if (
            self.policy.scaled == "q"
        ):  # JAX rounds a Python float to the array's format first; 15^-1/2 and 168^-1/2 change
            return self.fine(self.attended(self.fine(q * self.round(scale)), k))
        return self.fine(self.fine(self.attended(q, k)) * scale)

    def attended(self, q, k):
        """Multiply queries with the keys of their group."""
        (B, T, N, H), (S, K) = q.shape, k.shape[1:3]
        q = self.operand(q)
        if self.policy.operands != "stored" and self.rounded_here(T):
            q, k = OPERANDS[self.policy.operands](q), OPERANDS[self.policy.operands](k)
        grouped = q.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4).reshape(B, K, N // K * T, H)
        return self.multiply(grouped, k.transpose(0, 2, 3, 1)).reshape(B, N, T, S)

    def softmax(self, scores, seen):
        rounded = self.round if self.policy.softmax == "stored" else _same
        wide = np.where(seen[:, None], scores, np.float32(-np.inf))
        largest = wide.max(axis=-1, keepdims=True)
        wide = rounded(wide - np.where(np.isfinite(largest), largest, 0))
        weights = np.exp2(wide * np.float32(LOG2_E)) if self.other else np.exp(wide)
        parts = weights if self.other else rounded(weights)
        total = rounded(parts.sum(axis=-1, keepdims=True) if self.order < PLAIN else _plain_sum(parts))
        weights = rounded(weights)
        total = np.where(total == 0, 1, total)
        return self.fine(weights * (1 / total) if self.other else weights / total)

    def mix(self, probs, v):
        return self.product(self.added(probs, v))

    def added(self, probs, v):
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

    def attend(self, q, k, v, seen, scale):
        if self.policy.attention == "flash":
            return self.flash(self.scores(q, k, scale), v, seen)
        probs = self.softmax(self.scores(q, k, scale), seen)
        if self.policy.attention_operands == "float16" and self.policy.attention == "fused":
            return _mix_by_keys(probs, v) if q.shape[1] < FLASH_TILE else KERNEL.mix(probs, v)
        return self.mix(probs, v)

    def flash(self, scores, v, seen):
        """Round weights to the format before they are divided by their sum, as FlashAttention's tiles do."""
        wide = np.where(seen[:, None], scores, np.float32(-np.inf))
        largest = wide.max(axis=-1, keepdims=True)
        weights = np.exp(wide - np.where(np.isfinite(largest), largest, 0))
        total = weights.sum(axis=-1)
        mixed = self.added(self.round(weights), v)  # B T N H
        return self.product(mixed / np.where(total == 0, 1, total).transpose(0, 2, 1)[..., None])

    def gelu(self, x):
        return self.product(self.plain_gelu(x))

    def plain_gelu(self, x):
        if self.policy.tanh == "rational":
            return _gelu(x, self.rational_tanh)
        return _gelu_by_exp(x) if self.other else _gelu(x)

    def rational_tanh(self, x):
        """Err as much as the quotient may, up or down: near tanh = -1 that is all that GELU leaves of its input."""
        y = np.tanh(x)
        return np.where(np.abs(x) < SATURATED, np.clip(y + (RATIONAL if self.other else -RATIONAL), -1, 1), y)

    def geglu(self, gate, up):
        if self.policy.gelu == "float16 table":
            g = np.where(gate >= 10, gate, np.where(gate <= -10, np.float32(0), to_float16(_gelu(to_float16(gate)))))
        elif self.policy.gelu == "stored":
            g = self.stepwise_gelu(gate)
        else:
            g = self.plain_gelu(gate)
        return self.product(self.product(g) * up)

    def stepwise_gelu(self, x):
        """Round after each step, as google-deepmind/gemma's does in its parameters' dtype."""
        rounded = self.round
        cubic, root = (rounded(np.array([value], np.float32)) for value in (CUBIC, SQRT_2_OVER_PI))
        cube = rounded(x * x * x) if self.other else rounded(rounded(x * x) * x)  # a power is rounded once
        inner = rounded(root * rounded(x + rounded(cubic * cube)))
        return rounded(x * rounded(np.float32(0.5) * rounded(1 + rounded(np.tanh(inner)))))

    def average_pool(self, x, pool):
        side = int(x.shape[1] ** 0.5)
        squares = x.reshape(x.shape[0], side // pool, pool, side // pool, pool, x.shape[2])
        return self.round(squares.mean(axis=(2, 4), dtype=np.float32)).reshape(x.shape[0], -1, x.shape[2])

    def add(self, a, b):
        if self.policy.fused:  # b is taken before it was rounded: somewhere within half a step of what the dump holds
            b = b + np.spacing(b).astype(np.float64) * (np.random.default_rng(self.order).random(b.shape) - 0.5)
            return (a + b).astype(np.float32)
        return self.round(a + b)


def _power_errors(base, head_dim: int):
    """Bound the relative error of base^(2j/H) in float32: of an exponent that float32 does not hold, and of the power.

    Where few frequencies decide, as with a head of 12, all libraries of one machine may agree by chance.
    """
    exponent = np.arange(0, head_dim, 2) / head_dim
    rounded = np.abs(exponent.astype(np.float32) - exponent)
    return (np.log(np.float64(base)) * rounded + POWER).astype(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _plain_sums(rows, order):
    # one value after the other, as a plain loop does; NumPy adds in pairs, which errs least
    out = np.empty(rows.shape[0], np.float32)
    for row in range(rows.shape[0]):
        total = np.float32(0)
        for i in order:
            total += rows[row, i]
        out[row] = total
    return out


def _plain_sum(x, order=None):
    """Sum the last axis in an order, as it lies where there is none, and keep the axis."""
    order = np.arange(x.shape[-1]) if order is None else order
    return _plain_sums(np.ascontiguousarray(x).reshape(-1, x.shape[-1]), order).reshape(*x.shape[:-1], 1)


def _in_chains(a, b):
    """Multiply [..., T, I] by [..., I, O], each output as one chain of sums."""
    places = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, (*places, *a.shape[-2:])), np.broadcast_to(b, (*places, *b.shape[-2:]))
    out = np.empty((*places, a.shape[-2], b.shape[-1]), np.float32)
    for place in np.ndindex(places):
        out[place] = chain_product(a[place], b[place].T)
    return out


def _gelu(x, tanh=np.tanh):
    inner = np.float32(SQRT_2_OVER_PI) * (x + np.float32(CUBIC) * x * x * x)
    return np.float32(0.5) * x * (1 + tanh(inner))


def _gelu_by_exp(x):
    """The same, since 1 + tanh(u) = 2 / (1 + exp(-2u))."""
    inner = np.float32(SQRT_2_OVER_PI) * (x + np.float32(CUBIC) * x * x * x)
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-2 * inner))
