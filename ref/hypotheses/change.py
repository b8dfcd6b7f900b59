"""A change of basis: values along one axis in another order, or times other factors."""

from typing import Any, NamedTuple

import numpy as np


class Change(NamedTuple):
    """Values in another basis: along one axis in another order, with other signs or factors."""

    axis: str  # a letter of the registry's axes
    order: np.ndarray | None = None  # y[.., i] = t[.., order[i]]; [N, H] where it differs between heads
    factor: np.ndarray | None = None  # y = t * factor; [H], or [K, H] where it differs between heads

    def apply(self, x: np.ndarray, axes: list[str]) -> np.ndarray:
        """Bring a value into the basis."""
        if self.order is None:
            return x * self.shaped(x.shape, axes)
        return self._taken(x, axes, self.order)

    def undo(self, x: np.ndarray, axes: list[str]) -> np.ndarray:
        """Bring a value out of the basis."""
        if self.order is None:
            return x / self.shaped(x.shape, axes)
        return self._taken(x, axes, np.argsort(self.order, axis=-1))

    def _taken(self, x: np.ndarray, axes: list[str], order: np.ndarray) -> np.ndarray:
        if order.ndim == 1:
            return np.take(x, order, axis=axes.index(self.axis))
        heads = axes.index("K" if "K" in axes else "N")
        order = np.repeat(order, x.shape[heads] // len(order), axis=0)
        return np.take_along_axis(x, self._placed(order, x.ndim, axes), axis=axes.index(self.axis))

    def _placed(self, x: np.ndarray, ndim: int, axes: list[str]) -> np.ndarray:
        """View an array of the axis, or of heads and the axis, along a value's axes."""
        at, heads = axes.index(self.axis), axes.index("K" if "K" in axes else "N") if x.ndim == 2 else -1
        return x.reshape([x.shape[-1] if i == at else len(x) if i == heads else 1 for i in range(ndim)])

    def shaped(self, shape: tuple[int, ...], axes: list[str]) -> np.ndarray:
        """Return the factors as they lie along a value's axes; those of key heads repeated for their query heads."""
        assert self.factor is not None
        factor = self.factor
        if factor.ndim == 2:
            heads = axes.index("K" if "K" in axes else "N")
            factor = np.repeat(factor, shape[heads] // len(factor), axis=0)
        return self._placed(factor, len(shape), axes)

    def fits(self, shape: tuple[int, ...], axes: list[str]) -> bool:
        """Tell whether a value has the axis, and as many places on it."""
        if self.axis not in axes:
            return False
        own: Any = self.order if self.order is not None else self.factor
        heads = shape[axes.index("K" if "K" in axes else "N")] if {"K", "N"} & set(axes) else 0
        by_heads = own.ndim == 1 or (heads > 0 and heads % len(own) == 0)
        return shape[axes.index(self.axis)] == own.shape[-1] and by_heads

    def for_queries(self, shape: tuple[int, ...], axes: list[str]) -> "Change | None":
        """Return the order of query heads that an order of key heads makes; None where there is none."""
        if self.order is None or self.axis != "K" or "N" not in axes:
            return None
        group = shape[axes.index("N")] // len(self.order)
        return Change("N", np.concatenate([i * group + np.arange(group) for i in self.order]))

    def same(self, other: "Change") -> bool:
        """Tell whether two changes are the same."""
        mine, theirs = (one.order if one.order is not None else one.factor for one in (self, other))
        alike = (self.order is None) == (other.order is None) and self.axis == other.axis
        return alike and mine is not None and theirs is not None and np.array_equal(mine, theirs)
