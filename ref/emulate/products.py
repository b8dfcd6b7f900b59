"""Matrix products as a policy rounds their operands, and sums in the order of a run."""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ref.emulate.chain import Panels, chain_product, packed
from ref.emulate.loops import in_chains, plain_sum
from ref.emulate.operands import OPERANDS, ROUND, as_it_is, kind_of, narrow_product, rounded_for
from ref.emulate.policy import RUNS, Policy
from ref.ops.linear import ByRows, Weight, widen, widen_jit

WEIGHTS_KEPT, MOST_KEPT = 8, 2**24  # weights of a layer whose values are kept, and how many values one may have
PLAIN = 4  # orders from which on sums are plain loops, one term after the other


def slices(length: int, ranks: int) -> list[slice]:
    """Cut an axis as tensor parallelism does: the last ranks may have less.

    Source: torch 2.13 `torch.chunk`, which `Shard` of `torch.distributed.tensor` follows.
    """
    step = -(-length // ranks)
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def added(parts: list[np.ndarray], between: Callable, last: Callable) -> np.ndarray:
    """Add the sums of ranks, one after the other, rounding `between` and at the end."""
    total = parts[0]
    for part in parts[1:]:
        total = between(total + part)
    return last(total)


@lru_cache(maxsize=64)
def _permutation(order: int, length: int) -> np.ndarray:
    """Return the permutation of a run; all who ask share it, and nobody may write into it."""
    return np.random.default_rng([order, length]).permutation(length)


class Products:
    """The products of one policy in one order; `round` rounds to the format between operations."""

    def __init__(self, policy: Policy, order: int):
        self.policy, self.order = policy, order
        self.other = order % 2 == 1  # the other usual way to write the same formula
        self.round = ROUND[policy.stored]
        self.product = self.round if policy.products == "stored" else ROUND[policy.products]
        self.fine = self.product if policy.attention == "steps" else as_it_is
        self.operand = OPERANDS[policy.attention_operands]
        self.keep = self.round if policy.keys == "stored" else ROUND[policy.keys]
        self.in_chains = order >= PLAIN and policy.sums == "float32"  # how products are summed
        self.ready: dict[tuple[int, str], tuple[Any, np.ndarray | Panels]] = {}

    def shuffle(self, length: int) -> np.ndarray | None:
        """Return the order in which an axis is summed, None as it lies: in the last run too, but in a row."""
        if self.order in (0, RUNS - 1):  # a large value early makes every later sum round more
            return None
        return _permutation(self.order, length)

    def shuffled(self, weight: Weight, order: np.ndarray | None, operand: str) -> np.ndarray | Panels:
        """Return a weight's operands with its inputs in an order; those of the newest few weights are kept.

        Where sums are chains they are packed for them.
        """
        key = id(weight), operand
        kept = self.ready.get(key)  # once: another thread may push it out
        if kept:
            return kept[1]
        values = OPERANDS[operand](widen_jit(weight).astype(np.float32, copy=False))
        if self.in_chains:
            values = packed(values, order)
        elif order is not None:
            values = np.take(values, order, axis=1)
        if values.size <= MOST_KEPT and not isinstance(weight, ByRows):  # the head is another object each time
            if len(self.ready) >= WEIGHTS_KEPT:
                self.ready.pop(next(iter(self.ready.copy())), None)
            self.ready[key] = weight, values  # the weight too, or another might be given its id
        return values

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Return the mean of the last axis, which stays."""
        if not self.order:
            return np.asarray(np.mean(x, axis=-1, keepdims=True, dtype=np.float32))
        return plain_sum(x, self.shuffle(x.shape[-1])) / np.float32(x.shape[-1])

    def linear(self, x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
        """Apply a linear layer."""
        return self.project(x, weight, bias, self.policy.operands)

    def row_parallel(self, x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
        """Apply a linear layer whose inputs lie in slices on the ranks of the policy; every other run adds wide.

        y = round(round(sum_(i of rank 0) x_i w_i) + round(sum_(i of rank 1) x_i w_i)) ...
        """
        if self.policy.ranks == 1:
            return self.linear(x, weight, bias)
        parts = [
            self.linear(x[..., here], widen_jit(weight)[:, here]) for here in slices(x.shape[-1], self.policy.ranks)
        ]
        return added(parts, as_it_is if self.other else self.product, self.product)

    def convolve(self, x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
        """Multiply patches of pixels with their weights."""
        return self.project(x, weight, bias, self.policy.convolution)

    def project(self, x: np.ndarray, weight: Weight, bias: np.ndarray | None, operand: str) -> np.ndarray:
        """Multiply by a weight's transpose with operands of this format, and add the bias."""
        order = self.shuffle(x.shape[-1])
        rows = x.reshape(-1, x.shape[-1])
        operand = operand if self.rounded_here(len(rows)) else "stored"
        rows = OPERANDS[operand](rows)
        if order is not None and math.prod(weight.shape) > MOST_KEPT and not self.policy.by_weight:
            y = self.multiply_large(rows, OPERANDS[operand](widen_jit(weight).astype(np.float32, copy=False)), order)
        else:
            rows = rows if order is None else np.take(rows, order, axis=1)
            rows = rounded_for(rows, kind_of(weight)) if self.policy.by_weight else rows
            ready = self.shuffled(weight, order, operand)
            y = chain_product(rows, ready) if isinstance(ready, Panels) else self.multiply(rows, ready.T)
        y = y if bias is None else y + widen(bias).astype(np.float32, copy=False)
        return self.product(y).reshape(*x.shape[:-1], -1)

    def rounded_here(self, rows: int) -> bool:
        """Tell whether operands of a product of so many rows are rounded: of one row some libraries' are not."""
        return rows > 1 or not self.other

    def multiply_large(self, rows: np.ndarray, weight: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Multiply with a weight that is too large to be permuted for each run: the sum is split in three instead."""
        if self.policy.sums != "float32":
            return narrow_product(rows, weight.T, self.policy.sums)
        if self.in_chains:
            return chain_product(rows, weight, order)
        cuts = [0, *sorted(order[:2].tolist()), len(order)]
        parts = (rows[:, a:b] @ weight[:, a:b].T for a, b in itertools.pairwise(cuts))
        return np.asarray(sum(parts, np.float32(0)))

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Multiply [..., T, I] by [..., I, O] with the sums of the policy and of the order."""
        if self.policy.sums != "float32":
            return narrow_product(a, b, self.policy.sums)
        return in_chains(a, b) if self.in_chains else a @ b
