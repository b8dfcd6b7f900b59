"""Listen to llama.cpp's graph while it runs: each node that is a tap is read as soon as it is computed."""

import ctypes
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ref.capture.common import key_ranges
from ref.capture.llama_cpp.ggml import POINTER, Ggml
from ref.config import TextConfig
from ref.dump.llama_cpp_names import place, tap_of
from ref.model.taps import Recorder, tap_row

KEPT = (0, 2, 1, 3)  # [1, K, S, H] -> [1, S, K, H]
TRANSPOSED = (0, 3, 1, 2)  # [1, K, H, S], as values are kept for attention that is not fused
# Values that are no nodes but operands of one: (name, operation) -> {tap: (which operand, order of its axes)}
OPERANDS = {
    ("kq", "MUL_MAT"): {"cache.k": (0, KEPT)},
    ("kqv", "MUL_MAT"): {"cache.v": (0, TRANSPOSED)},
    ("kq_soft_max", "SOFT_MAX"): {"attn.visible": (1, None)},
    ("flash", "FLASH_ATTN_EXT"): {"cache.k": (1, KEPT), "cache.v": (2, KEPT), "attn.visible": (3, None)},
}
CACHE = re.compile(r"cache_k_l(\d+)\b.*")
OUT = re.compile(r"text\.layer\.(\d+)\.out")


class Found(NamedTuple):
    """The taps that are known once a node has been computed."""

    layer: int | None
    taps: list[str]  # of the node itself: two where the residual stream leaves one layer and enters the next
    operands: dict[str, tuple[int, tuple[int, ...] | None]]  # tap -> as in OPERANDS


class Listener:
    """The callback of one context: says which nodes it wants to see, and hands their values on as taps.

    Args:
        ggml: the library.
        config: the model's.
        patterns: which taps.
        keep: is given (tap name, value in the registry's axes).
        cached: whether `cache.k` and `cache.v` are kept.
    """

    def __init__(
        self,
        ggml: Ggml,
        config: TextConfig,
        patterns: Sequence[str],
        keep: Callable[[str, np.ndarray], Any],
        cached: bool,
    ):
        self.ggml, self.config, self.patterns, self.keep, self.cached = ggml, config, patterns, keep, cached
        self.begin(0, 0)

    def begin(self, before: int, tokens: int) -> None:
        """Begin a pass of so many tokens after so many cached ones."""
        self.before, self.tokens, self.stop = before, tokens, before + tokens
        self.error: BaseException | None = None
        self.checked = False
        self.recorder = Recorder(*self.patterns, keep=self.keep)

    def end(self) -> None:
        """End the pass; raises what went wrong inside the callback, through which no exception passes."""
        if self.error:
            raise self.error

    def __call__(self, address: int, ask: bool, _: Any) -> bool:
        """Answer whether a node is wanted (ask), or take its value."""
        if self.error:
            return False
        try:
            tensor = ctypes.cast(address, POINTER)
            if not self.checked:
                self.ggml.check(tensor)
                self.checked = True
            found = self._find(tensor)
            if not ask:
                self._take(tensor, found)
            return not ask or bool(found.taps or found.operands)
        except BaseException as error:  # ctypes would print it and go on
            self.error = error
            return False

    def _find(self, tensor) -> Found:
        one, op = tensor.contents, self.ggml.op(tensor)
        name, source = one.name.decode(), one.src[0].contents.name.decode() if one.src[0] else ""
        stem, layer = place(name, op, source)
        if op == "FLASH_ATTN_EXT":  # its own name is a number
            match = CACHE.fullmatch(one.src[1].contents.name.decode())
            stem, layer = "flash", int(match[1]) if match else None
        tap, wants = tap_of(name, op, source), self.recorder.wants
        operands = {f"text.layer.{layer}.{inside}": how for inside, how in OPERANDS.get((stem, op), {}).items()}
        operands = {k: how for k, how in operands.items() if wants(k) and (self.cached or ".cache." not in k)}
        return Found(layer, [t for t in self._with_next(tap) if wants(t)] if tap else [], operands)

    def _with_next(self, tap: str) -> list[str]:
        out = OUT.fullmatch(tap)
        entered = 0 if tap == "text.embed" else int(out[1]) + 1 if out else self.config.layers
        return [tap, f"text.layer.{entered}.in"] if entered < self.config.layers else [tap]

    def _take(self, tensor, found: Found) -> None:
        if found.taps:
            value = self._aligned(found, self.ggml.read(tensor))
            for tap in found.taps:
                self.recorder(tap, value)
        for tap, (which, order) in found.operands.items():
            value = self.ggml.read(tensor.contents.src[which])
            shown = visible_keys(value, self.tokens) if order is None else value.transpose(order)
            if order is not None:
                shown = shown[:, self._newest(found.layer, self.stop) : self.stop]
            self.recorder(tap, shown)

    def _newest(self, layer: int | None, most: int) -> int:
        """Return the first of the newest keys, at most W in a local layer; llama.cpp keeps all of them."""
        window = self.config.window_of(layer) if layer is not None else None
        return self.stop - min(window or most, most)

    def _aligned(self, found: Found, value: np.ndarray) -> np.ndarray:
        row = tap_row(found.taps[0])
        axes, value = row.axes if row else "", np.asarray(value, np.float32)
        if axes == "B N T S":  # keys are padded to a multiple of 256; a first pass shows those outside the window too
            return value[..., (0 if self.before == 0 else self._newest(found.layer, self.stop)) : self.stop]
        inner = (-1, self.config.head_dim) if axes.endswith("H") else (-1,)
        return value.reshape(1, self.tokens, *inner)


def visible_keys(mask: np.ndarray, tokens: int) -> np.ndarray:
    """Return the key indices that a mask lets each query see.

    Args:
        mask: [1, 1, T or more, S or more], -inf where a key is not seen.
        tokens: T.

    Returns:
        [1, T, 2] int64, half-open ranges; where a query does not see a contiguous range, [1, T, S] bool.

    Source: llama.cpp `src/llama-kv-cache.cpp` `set_input_kq_mask`.
    """
    seen = np.asarray(mask, np.float32)[0, 0, :tokens] > -np.inf
    keys = np.flatnonzero(seen.any(0))
    return key_ranges(seen[:, : keys[-1] + 1 if keys.size else 1])
