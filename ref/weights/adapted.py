"""A matrix and what an adapter adds to it, kept apart: what is rounded when depends on whether they were merged."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ref.ops.linear import ByRows, Weight, take_rows, widen_jit

Rows = slice | np.ndarray
ALL = slice(None)


class Factors(NamedTuple):
    """A product of two thin matrices, times a number."""

    a: np.ndarray  # [r, I]
    b: np.ndarray  # [O, r]
    scale: float  # alpha / r

    def delta(self, rows: Rows = ALL) -> np.ndarray:
        """Return rows of scale * b @ a, in float64."""
        return self.scale * (self.b[rows].astype(np.float64) @ self.a.astype(np.float64))


class Adapted(ByRows):
    """A Weight W + (alpha / r) B A, whose rows are made when they are asked for."""

    base: Weight
    factors: Factors
    merged: bool

    def held(self, rounded: Callable[[Weight], np.ndarray], rows: Rows = ALL, multiple: float = 1.0) -> np.ndarray:
        """Return the values that a producer had.

        Args:
            rounded: a Weight to the values of the dtype that weights were held in.
            rows: which.
            multiple: of the adapter's part; 1 is right.

        Returns:
            [R, I]: merged float32, rounded after it was added up; else float64, the base rounded and the rest not.

        Source: peft 0.18.1 `lora.Linear`: merged into the weight, or a product of its own in float32 beside it.
        """
        base, delta = rounded(take_rows(self.base, rows)), multiple * self.factors.delta(rows)
        return rounded((base + delta).astype(np.float32)) if self.merged else base + delta

    @property
    def kind(self) -> str:
        """The format that inputs of products are rounded for: none."""
        return "F32"


def adapted(base: Weight, factors: Factors, merged: bool) -> Adapted:
    """Put an adapter on a matrix.

    Args:
        base: [O, I].
        factors: of the same O and I.
        merged: whether the producer added them up before it ran.

    Source: LoRA, arXiv:2106.09685.
    """

    def some(rows: Rows) -> Any:
        return one.held(widen_jit, rows).astype(np.float32)

    one = Adapted((base.shape[0], base.shape[1]), some)
    one.base, one.factors, one.merged = base, factors, merged
    return one
