"""Which call of which layer of keras-hub's Gemma 3 is which tap.

Each layer is known by the block that holds it, not by its name. Where a value is no layer's result it is a layer's
argument: the embedding goes into block 0, the mask and the scores into the softmax, the mix into the output projection.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from ref.model.taps import Recorder

# place of a layer in its block -> taps of its first argument, and of its result
LAYERS: dict[str, tuple[str | None, str | None]] = {
    "pre_attention_norm": (None, "attn.pre_norm"),
    "attention.query_dense": (None, "attn.q"),
    "attention.key_dense": (None, "attn.k"),
    "attention.value_dense": (None, "attn.v"),
    "attention.query_norm": (None, "attn.q_norm"),
    "attention.key_norm": (None, "attn.k_norm"),
    "attention.output_dense": ("attn.mix", "attn.out"),
    "post_attention_norm": (None, "attn.post_norm"),
    "pre_ffw_norm": ("mid", "ffn.pre_norm"),
    "gating_ffw": (None, "ffn.gate"),
    "gating_ffw_2": (None, "ffn.up"),
    "ffw_linear": ("ffn.act", "ffn.out"),
    "post_ffw_norm": (None, "ffn.post_norm"),
}
NORMED = {"attn.q_norm": "q", "attn.k_norm": "k"}


class Listener:
    """Hear the calls of a backbone's layers; every value is kept as a tensor of the backend.

    Args:
        parts: from `import_keras`.
        backbone: whose layers.
        patterns: of the taps to keep.
    """

    def __init__(self, parts, backbone, patterns):
        self.parts, self.recorder = parts, Recorder(*patterns, keep=lambda name, value: _as_it_is(value))
        self.normed: dict[str, Any] = {}  # q and k as the latest norms gave them
        self.heard: dict[int, Callable[[tuple, dict, Any], None]] = {}
        for i, block in enumerate(backbone.transformer_layers):
            self._place(block, f"text.layer.{i}.", first=i == 0)
        self.heard[id(backbone.layer_norm)] = lambda args, kwargs, out: self.tell("text.final_norm", out)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Wrap the method that every layer is called by, and restore it."""
        inner = self.parts.layer.__call__

        def called(layer, *args, **kwargs):
            out = inner(layer, *args, **kwargs)
            if id(layer) in self.heard:
                self.heard[id(layer)](args, kwargs, out)
            return out

        with patch.object(self.parts.layer, "__call__", called):
            yield

    def take(self) -> dict[str, Any]:
        """Return tap -> value of the pass, and begin another."""
        values, self.recorder.values = self.recorder.values, {}
        return values

    def tell(self, tap: str, value: Any) -> None:
        """Record a value."""
        self.recorder(tap, value)

    def _place(self, block, prefix: str, first: bool) -> None:
        for place, (before, after) in LAYERS.items():
            layer = block
            for name in place.split("."):
                layer = getattr(layer, name, None)  # a norm may be off
            self.heard[id(layer)] = self._ends(prefix, before, after)

        def whole(args, kwargs, out):
            if first:
                self.tell("text.embed", args[0])
            cached = isinstance(out, tuple)
            self.tell(prefix + "in", args[0])
            self.tell(prefix + "out", out[0] if cached else out)
            if cached:
                self.tell(prefix + "cache.k", out[1][:, 0])
                self.tell(prefix + "cache.v", out[1][:, 1])

        self.heard[id(block)] = whole
        self.heard[id(block.attention.softmax)] = self._softmax(prefix)
        self.heard[id(block.attention.rope_layer)] = self._rotation(prefix)

    def _ends(self, prefix: str, before: str | None, after: str | None):
        def told(args, kwargs, out):
            if after in NORMED:
                self.normed[NORMED[after]] = out
            if before:
                self.tell(prefix + before, args[0])
            if after:
                self.tell(prefix + after, out)

        return told

    def _softmax(self, prefix: str):
        ops = self.parts.keras.ops

        def told(args, kwargs, out):
            scores = args[0]  # B K G T S, of the scaled query

            def flat(value):
                return ops.reshape(value, (value.shape[0], -1, *value.shape[3:]))

            self.tell(prefix + "attn.scores", flat(scores))
            if kwargs.get("mask") is not None:
                self.tell(prefix + "attn.visible", kwargs["mask"][:, 0, 0])
            self.tell(prefix + "attn.probs", flat(ops.cast(out, scores.dtype)))  # as the attention casts it next

        return told

    def _rotation(self, prefix: str):
        calls = [0]

        def told(args, kwargs, out):
            calls[0] += 1
            # what was normed as a query is one; of what was changed since, queries come first
            known = [name for name, value in self.normed.items() if value is args[0]]
            name = known[0] if known else "q" if calls[0] % 2 else "k"
            self.tell(f"{prefix}attn.{name}_rope", out)

        return told


def _as_it_is(value: Any) -> Any:
    """Return a value that stays: on PyTorch the attention scales its queries in place, after their rotation."""
    return value.detach().clone() if hasattr(value, "detach") else value
