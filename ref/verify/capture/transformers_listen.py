"""What hooks report to: names values, brings them to the registry's axes and hands them on row by row."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from ref.config import TextConfig, VisionConfig
from ref.errors import wanted
from ref.model.taps import Recorder, tap_row

Keep = Callable[[int, str, np.ndarray], Any]  # row of the batch, tap, value


class Listener:
    """Hears the values of one pass after another.

    Args:
        patterns: which taps.
        text: the model's configuration.
        vision: of its tower, None without.
        cached: whether the passes keep a cache.
    """

    def __init__(self, patterns: Sequence[str], text: TextConfig, vision: VisionConfig | None, cached: bool):
        self.recorder, self.text, self.vision, self.with_cache = Recorder(*patterns), text, vision, cached
        self.before = self.tokens = 0
        self.images: list[slice] = []
        self.pads: list[int] = []
        self.keep: Keep | None = None

    def begin(self, before: int, tokens: int, images: list[slice], pads: list[int], keep: Keep) -> None:
        """Begin a pass.

        Args:
            before: keys of earlier passes.
            tokens: T.
            images: of each row of the batch, which images are its.
            pads: of each row, left pads.
            keep: is given (row, tap, value with a batch axis of length 1, or counting the row's images).
        """
        self.before, self.tokens, self.images, self.pads, self.keep = before, tokens, images, pads, keep
        self.heard: set[str] = set()
        self.calls: Counter[tuple[Any, str]] = Counter()

    def end(self) -> None:
        """End the pass: what a module does between passes is nobody's."""
        self.keep = None

    @property
    def total(self) -> int:
        """Keys after this pass."""
        return self.before + self.tokens

    def wants(self, tap: str) -> bool:
        """Tell whether a value would be kept."""
        return self.keep is not None and self.recorder.wants(tap)

    def turn(self, module: Any, side: str, taps: list[str]) -> str:
        """Return which of its taps a module's value is: one that stands in two layers is called once for each.

        Args:
            module: the module.
            side: its input or output.
            taps: in the order of execution.
        """
        number = self.calls[module, side]
        self.calls[module, side] += 1
        return taps[min(number, len(taps) - 1)]

    def tap(self, name: str, value: Any, first: bool = False) -> None:
        """Hand on a tensor of the whole batch.

        Args:
            name: of the tap.
            value: a tensor; what is none is passed over.
            first: of values under one name the first counts, as of inputs; else the last, as of outputs.
        """
        if not self.wants(name) or not hasattr(value, "detach") or (first and name in self.heard):
            return
        array = to_numpy(self._aligned(name, value))
        seen = name.startswith("vision.")
        for row, images in enumerate(self.images):
            part = images if seen else slice(row, row + 1)
            if images.stop > images.start or not (seen or name == "model.merged"):
                self.give(row, name, array[part])

    def give(self, row: int, name: str, value: np.ndarray) -> None:
        """Hand on the value of one row."""
        if self.keep is not None and self.recorder.wants(name):
            self.heard.add(name)
            self.keep(row, name, value)

    def heads(self, name: str, letter: str) -> tuple[int, int]:
        """Return how many heads a tap has, by the letter of their axis, and their length."""
        if name.startswith("vision."):
            assert self.vision is not None
            return self.vision.heads, self.vision.width // self.vision.heads
        return (self.text.kv_heads if letter == "K" else self.text.query_heads), self.text.head_dim

    def _aligned(self, name: str, value: Any) -> Any:
        """Bring heads behind tokens, and patches into one axis."""
        found = tap_row(name)
        axes = found.axes.split() if found else []
        if axes == ["B", "P", "D"] and value.ndim == 4:  # a convolution's [B, D, y, x]
            return value.flatten(2).transpose(1, 2)
        if len(axes) != 4 or axes[-1] != "H":
            return value
        count, length = self.heads(name, axes[2])
        if value.ndim == 4:  # [B, N, T, H] as transformers has it, unless someone has brought it into order
            return value.transpose(1, 2) if value.shape[1] == count else value
        if value.shape[-1] % length:
            raise wanted(name, "capture", f"a multiple of head_dim = {length} values", value.shape[-1])
        return value.unflatten(-1, (-1, length))


def to_numpy(value: Any) -> np.ndarray:
    """Return a tensor as an array, bfloat16 as `ml_dtypes.bfloat16`, bit for bit.

    Args:
        value: on any device; the array may share its memory.

    Source: torch 2.13 `Tensor.numpy`, which knows no bfloat16.
    Differs: no known.
    """
    value = value.detach().cpu().contiguous()
    if str(value.dtype) != "torch.bfloat16":
        return value.numpy()
    import torch

    return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
