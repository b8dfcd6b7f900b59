"""Two runs of the truth on inputs next to each other: the second's products are the first's and that of the difference.

    W x' = W x + W (x' - x)

Where x' - x is at most 2^-13 of x, token by token, a float32 product of it errs by 2^-13 of what a float32 product of
x' would: less than 2^-33 of the result's size, a five-hundredth of float32's rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ref.emulate.arithmetic import TRUTH, Arithmetic
from ref.ops import KERNEL
from ref.ops.linear import Weight, widen

CLOSE = 2.0**-13  # of a token's largest input


class _Made(NamedTuple):
    """The newest product."""

    weight: Weight
    x: np.ndarray
    y: np.ndarray  # without a bias


class Pair:
    """The truth as the run on a dump's own inputs computes it, and as the run from the prompt may.

    Only inside `beside`, where one thread asks first one and then the other: what a run is told must not depend on who
    came first.
    """

    def __init__(self) -> None:
        self.made: _Made | None = None
        self.open = False
        self.first: Arithmetic = TRUTH._replace(linear=self._first, row_parallel=self._first)
        self.second: Arithmetic = TRUTH._replace(linear=self._second, row_parallel=self._second)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Remember the newest product of the first for the second."""
        self.open = True
        try:
            yield
        finally:
            self.open, self.made = False, None

    def _first(self, x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
        y = KERNEL.linear(x, weight)
        if self.open:
            self.made = _Made(weight, x, y)
        return y if bias is None else y + widen(bias)

    def _second(self, x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
        made = self.made
        if made is None or made.weight is not weight or made.x.shape != x.shape:
            return KERNEL.linear(x, weight, bias)
        apart = x - made.x
        far = np.abs(apart).max(axis=-1) > CLOSE * np.abs(made.x).max(axis=-1)
        if far.any() or not np.isfinite(apart).all():
            return KERNEL.linear(x, weight, bias)
        y = made.y + KERNEL.linear(apart.astype(np.float32), weight)
        return y if bias is None else y + widen(bias)
