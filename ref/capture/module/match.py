"""Which tap of the reference a value is, in whatever order of axes: by its distance, once number and norm agree."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from einops import rearrange

from ref.config import TextConfig
from ref.dump.layouts import Lengths, axes_of_value, every_layout, fit, lengths_of, sides_of, written
from ref.model.taps import Recorder
from ref.model.text import How, forward
from ref.weights.resolve import Loaded

NEAR = 0.05  # of the distance divided by the norm: a port that is a little wrong is still recognised
AS_NEAR = 2.0  # times the nearest: the same value under another name
FUSED = {  # taps that lie one behind another in the last axis: the layout
    "L.attn.q + L.attn.k + L.attn.v": "B T (N H)+(K H)+(K H)",
    "L.ffn.gate + L.ffn.up": "B T F+F",
    "L.ffn.up + L.ffn.gate": "B T F+F",
}


class Match(NamedTuple):
    """A tap that a value is."""

    tap: str
    layout: str
    distance: float


class Known(NamedTuple):
    """A value of the reference."""

    tap: str
    layout: str  # of several behind each other; empty of one
    value: np.ndarray
    norm: float


class Reference:
    """What the reference computes of some ids.

    Args:
        loaded: the weights.
        ids: [T] of one prompt.
    """

    def __init__(self, loaded: Loaded, ids: Sequence[int]):
        self.config: TextConfig = loaded.params.config
        recorder = Recorder()
        forward(loaded.params, [list(ids)], How(taps=recorder))
        taps = {tap: value for tap, value in recorder.values.items() if value.dtype.kind == "f"}
        self.lengths: Lengths = lengths_of(self.config._asdict(), 1, len(ids), 0, None)
        self.by_size: dict[int, list[Known]] = {}
        for tap, layout, value in [*((tap, "", one) for tap, one in taps.items()), *_fused(taps, self.config.layers)]:
            known = Known(tap, layout, value, float(np.linalg.norm(value)))
            self.by_size.setdefault(value.size, []).append(known)

    def matches(self, value: np.ndarray) -> list[Match]:
        """List the taps that a value is, the nearest and those as near."""
        found, norm = [], float(np.linalg.norm(value))
        for known in self.by_size.get(value.size, ()):
            if abs(norm - known.norm) <= NEAR * known.norm:
                found += self._orders(known, value)
        nearest = min((one.distance for one in found), default=0.0)
        return [one for one in found if one.distance <= AS_NEAR * nearest + 1e-6]

    def _orders(self, known: Known, value: np.ndarray) -> Iterator[Match]:
        if known.layout:
            if value.shape[-1] == known.value.shape[-1]:
                yield from self._near(known, known.layout, value.reshape(known.value.shape))
            return
        axes = axes_of_value(known.tap, "float32", known.tap, "reference")
        for side in every_layout(axes.split(), value.ndim, True):
            left, right = sides_of(side, axes, known.tap, "reference")
            way = fit(left, right, axes, value.shape, self.lengths.text, self.lengths.keys)
            if way is not None:
                layout = "" if left == axes else written(side)
                yield from self._near(known, layout, rearrange(value, way.pattern, **way.sizes))

    def _near(self, known: Known, layout: str, value: np.ndarray) -> Iterator[Match]:
        distance = float(np.linalg.norm(value - known.value)) / (known.norm or 1.0)
        if distance <= NEAR:
            yield Match(known.tap, layout, distance)


def _fused(taps: Mapping[str, np.ndarray], layers: int) -> Iterator[tuple[str, str, np.ndarray]]:
    for i in range(layers):
        for names, layout in FUSED.items():
            own = names.replace("L.", f"text.layer.{i}.")
            parts = [taps[tap] for tap in own.split(" + ")]
            flat = [one.reshape(*one.shape[:2], -1) for one in parts]
            yield own, layout, np.concatenate(flat, -1)
