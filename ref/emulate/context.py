"""What a rule of the graph is given: the values of other taps, the weights, the operations."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ref.config import TextConfig, VisionConfig
from ref.emulate.arithmetic import Arithmetic
from ref.emulate.one_pass import OnePass, Unknown
from ref.ops.visibility import as_matrix

if TYPE_CHECKING:
    from ref.emulate.graph import Run


class Context(NamedTuple):
    """What a rule is given: `at["attn.q"]` is the value of another tap of the same layer, computed or the dump's."""

    run: "Run"
    tap: str
    prefix: str  # `text.layer.3.`
    layer: int

    def __getitem__(self, name: str) -> np.ndarray:
        return self.run.value(name if name.startswith(("text.", "vision.", "model.")) else self.prefix + name)

    @property
    def ops(self) -> Arithmetic:
        """The operations."""
        return self.run.arithmetic

    @property
    def one_pass(self) -> OnePass:
        """The pass and its weights."""
        return self.run.one_pass

    @property
    def config(self) -> TextConfig:
        """The text configuration."""
        return self.run.one_pass.config

    @property
    def vision(self) -> VisionConfig:
        """The vision configuration."""
        vision = self.run.one_pass.vision
        if vision is None:
            raise Unknown("the weights have no vision tower")
        return vision.config

    @property
    def weights(self) -> Any:
        """The weights of this layer, or of the model outside the layers."""
        return self.run.weights_of(self.prefix)

    def vector(self, field: str) -> np.ndarray:
        """One vector of weights, as floats."""
        return np.asarray(getattr(self.weights, field))

    def is_given(self, name: str) -> bool:
        """Tell whether the dump holds the tap, so that nothing above it is computed."""
        return self.run.is_given(self.prefix + name)

    def is_known(self, name: str) -> bool:
        """Tell whether the tap's value is the dump's, or has been computed already."""
        return self.is_given(name) or self.prefix + name in self.run.memo

    def passes_through(self, *names: str) -> None:
        """Take note of operations that this one does inside, without their values: a mistake may be in any of them."""
        self.run.inputs[self.tap] |= dict.fromkeys(self.prefix + name for name in names)

    def is_mutated(self, *names: str) -> bool:
        """Tell whether a mutant stands in the place of one of these operations."""
        return any(self.run.is_mutated(self.prefix + name) for name in names)

    def keys(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Return all keys and values that the queries may see, and the key index of the first."""
        return self.run.keys(self.prefix)

    def places(
        self, base: float | None = None, factor: float | None = None, positions: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return cosines and sines of this layer's rotation, or of another base, factor or positions."""
        own_base, own_factor = self.config.rope(self.layer)
        positions = self.one_pass.positions if positions is None else positions
        return self.ops.table(
            np.maximum(positions, 0), self.config.head_dim, base or own_base, own_factor if factor is None else factor
        )

    def seen(self, keys: int, origin: int) -> np.ndarray:
        """Return what each query sees as a boolean matrix of `keys` keys from `origin` on."""
        return as_seen(self["attn.visible"], keys, origin, self.one_pass.total)


def as_seen(visible: np.ndarray, keys: int, origin: int, total: int) -> np.ndarray:
    """Return ranges, or a matrix whose last column is the newest key, as a matrix of keys origin .. origin + keys."""
    if visible.dtype != bool:
        return as_matrix(visible - origin, keys)
    key = origin + np.arange(keys)
    first = total - visible.shape[-1]
    inside = (key >= first) & (key < total)
    return np.where(inside, visible[..., np.clip(key - first, 0, visible.shape[-1] - 1)], False)


def split_heads(x: np.ndarray, count: int) -> np.ndarray:
    """View the last axis as heads: [B, T, N*H] as [B, T, N, H]."""
    return x.reshape(*x.shape[:2], count, -1)


def join_heads(x: np.ndarray) -> np.ndarray:
    """View all heads as one axis: [B, T, N, H] as [B, T, N*H]."""
    return x.reshape(*x.shape[:2], -1)


Rule = Callable[[Context], Any]
