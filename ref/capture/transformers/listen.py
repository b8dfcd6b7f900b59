"""What hooks report to: names values, brings them to the registry's axes and hands them on row by row."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ref.capture.transformers.parallel import Ranks, agreed, gathered, held
from ref.capture.transformers.tensors import Product, product_of, same_bits, to_numpy
from ref.config import TextConfig, VisionConfig
from ref.model.taps import Recorder, tap_row

Keep = Callable[[int, str, np.ndarray], Any]  # row of the batch, tap, value
# How the axes of a value lie where it is heard; the place that hears it knows. T stands for patches too, S for cached
# keys, N for the heads of keys too.
AS_IS, FLAT, TOKENS_FIRST, HEADS_FIRST, GRID = "", "B T NH", "B T N H", "B N T H", "B D Y X"
RANK = {FLAT: 3, TOKENS_FIRST: 4, HEADS_FIRST: 4}


class Listener:
    """Hears the values of one pass after another.

    Args:
        patterns: which taps.
        text: the model's configuration.
        vision: of its tower, None without.
        cached: whether the passes keep a cache.
        ranks: those that the model lies on in slices; None of a whole one.
    """

    def __init__(
        self,
        patterns: Sequence[str],
        text: TextConfig,
        vision: VisionConfig | None,
        cached: bool,
        ranks: Ranks | None = None,
    ):
        self.ranks = ranks
        self.recorder, self.text, self.vision, self.with_cache = Recorder(*patterns), text, vision, cached
        self.before = self.tokens = 0
        self.has_slots = False  # whether the cache is static: slots behind the keys hold none yet
        self.images: list[slice] = []
        self.pads: list[int] = []
        self.keep: Keep | None = None
        self.left_out: dict[str, str] = {}  # tap -> why
        self.held: dict[str, dict[str, Any]] = {}  # tap -> what a rank's own dump says of it
        self.product: Product | None = None  # the first one of the text
        self._forget()

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
        self._forget()

    def _forget(self) -> None:
        self.heard: set[str] = set()
        self.spare: dict[str, Any] = {}  # tap -> what stands for it unless a better place is heard
        self.projected: dict[str, Any] = {}  # attn.q and attn.k until their norms are heard
        self.cached: tuple[Any, Any] | None = None  # keys that went into a layer's cache, and what it gave for them
        self.calls: Counter[tuple[Any, str]] = Counter()

    def end(self) -> None:
        """End the pass: what a module does between passes is nobody's."""
        for name, value in list(self.spare.items()):
            self.tap(name, value, TOKENS_FIRST, first=True)
        self.keep, self.spare, self.projected, self.cached = None, {}, {}, None

    @property
    def total(self) -> int:
        """Keys after this pass."""
        return self.before + self.tokens

    def wants(self, tap: str) -> bool:
        """Tell whether a value would be kept."""
        return self.keep is not None and self.recorder.wants(tap)

    def turn(self, module: Any, side: str, taps: list[Any]) -> Any:
        """Return which of its taps a module's value is: one that stands in two layers is called once for each.

        Args:
            module: the module.
            side: its input or output.
            taps: in the order of execution.
        """
        number = self.calls[module, side]
        self.calls[module, side] += 1
        return taps[min(number, len(taps) - 1)]

    def tap(self, name: str, value: Any, axes: str = AS_IS, first: bool = False) -> None:
        """Hand on a tensor of the whole batch.

        Args:
            name: of the tap.
            value: a tensor; what is none is passed over.
            axes: how they lie, by who hands it on; the registry's where nothing is said.
            first: of values under one name the first counts, as of inputs; else the last, as of outputs.
        """
        if not hasattr(value, "detach"):
            return
        if name.startswith("text.layer.") and name.endswith((".attn.q", ".attn.k")):
            self._hear_product(name, value)
        if not self.wants(name) or (first and name in self.heard):
            return
        value, row = self._aligned(name, value, axes), tap_row(name)
        if value is None:
            return
        if self.ranks is not None and row is not None and name.startswith("text."):
            if self.ranks.each:
                value, self.held[name] = held(self.ranks, value, row.axes)
            else:
                value = gathered(self.ranks, value, row.axes)
        array = to_numpy(value)
        self.spare.pop(name, None)
        seen = name.startswith("vision.")
        for item, images in enumerate(self.images):
            part = images if seen else slice(item, item + 1)
            if images.stop > images.start or not (seen or name == "model.merged"):
                self.give(item, name, array[part])

    def give(self, row: int, name: str, value: np.ndarray) -> None:
        """Hand on the value of one row."""
        if self.keep is not None and self.recorder.wants(name):
            self.heard.add(name)
            self.keep(row, name, value)

    def leave(self, name: str, why: str) -> None:
        """Leave a tap out, and remember why."""
        if self.wants(name):
            self.left_out.setdefault(name, why)

    def heads(self, name: str, letter: str) -> tuple[int, int]:
        """Return how many heads of a tap are here, by the letter of their axis, and their length."""
        if name.startswith("vision."):
            assert self.vision is not None
            return self.vision.heads, self.vision.width // self.vision.heads
        count = self.text.kv_heads if letter == "K" else self.text.query_heads
        return count // self._parts(letter), self.text.head_dim

    def _parts(self, letter: str) -> int:
        return self.ranks.count if self.ranks is not None and letter in self.ranks.sliced else 1

    def agreed(self, found: bool) -> bool:
        """Tell whether something holds on every rank."""
        return found if self.ranks is None else agreed(self.ranks, found)

    def normed(self, tap: str, given: Any, value: Any) -> None:
        """Hand on the output of a norm over heads, whose axes lie as those of its input; arguments as `order`."""
        axes = self.order(tap, given) if hasattr(given, "detach") else None
        if axes is None:
            self.leave(tap, "which axis counts heads and which tokens is not told by its input")
        else:
            self.tap(tap, value, axes)

    def _hear_product(self, name: str, value: Any) -> None:
        if self.product is None:
            self.product = product_of(value)
        if self.wants(f"{name}_norm"):
            self.projected[name] = value

    def order(self, tap: str, given: Any) -> str | None:
        """Tell how the heads lie that a norm is given, by the projection that they come from.

            given[b, t, n] = projection[b, t, n * H : (n + 1) * H], or given[b, n, t]

        Args:
            tap: `attn.q_norm` or `attn.k_norm` of a layer.
            given: the norm's input.

        Returns:
            FLAT, TOKENS_FIRST or HEADS_FIRST. Where its values were changed on the way: by the number of heads, unless
            there are as many tokens; then None.

        Source: transformers 5.23 `Gemma3Attention.forward`.
        Differs: it has heads first; a patched one may norm before it transposes.
        """
        made = self.projected.pop(tap.removesuffix("_norm"), None)
        if given.ndim != 4:
            return FLAT
        if made is not None and made.ndim == 3 and made.numel() == given.numel():
            rows = made.reshape(*made.shape[:2], -1, given.shape[-1])
            for axes, value in ((HEADS_FIRST, rows.transpose(1, 2)), (TOKENS_FIRST, rows)):
                if self.agreed(same_bits(given, value)):
                    return axes
        count, _ = self.heads(tap, "K" if tap.endswith("k_norm") else "N")
        known = {(count, self.tokens): HEADS_FIRST, (self.tokens, count): TOKENS_FIRST}
        return known.get(tuple(given.shape[1:3])) if count != self.tokens else None

    def _aligned(self, name: str, value: Any, axes: str) -> Any:
        """Bring heads behind tokens, and patches into one axis; None, and a reason, where the value has other axes."""
        row = tap_row(name)
        if axes == AS_IS or row is None:
            return value
        if axes == GRID and value.ndim != 4:  # in rows already
            return value
        if axes == GRID:  # a convolution's
            return value.flatten(2).transpose(1, 2)
        _, length = self.heads(name, row.axes.split()[2])
        if value.ndim != RANK[axes] or (value.shape[-1] % length if axes == FLAT else value.shape[-1] != length):
            return self.leave(name, f"wanted [{axes.replace('NH', 'N*H')}] with H = {length}, got {list(value.shape)}")
        if axes == FLAT:
            return value.unflatten(-1, (-1, length))
        return value.transpose(1, 2) if axes == HEADS_FIRST else value
