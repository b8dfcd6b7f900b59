"""The registry of taps: axes, operation and inputs of each value that a forward pass reports."""

from typing import NamedTuple


class TapRow(NamedTuple):
    """One row of the registry: axes, the op that makes the value and the taps it is made from."""

    axes: str
    op: str
    inputs: tuple[str, ...]  # tests/emulate/test_inputs.py holds them equal to what the value depends on
    integers: bool = False  # or booleans; all others are floats

    @property
    def exact(self) -> bool:
        """Tell whether the op only moves values: no rounding, so no noise floor."""
        return self.op in ("residual stream", "cache", "visible_keys")

    @property
    def is_visibility(self) -> bool:
        """Tell whether the value says what each query sees: ranges of keys, or a boolean matrix."""
        return self.op == "visible_keys"

    @property
    def is_ring(self) -> bool:
        """Tell whether the value may hold the newest keys only, as the cache of a local layer does."""
        return self.op == "cache"

    @property
    def is_pairwise(self) -> bool:
        """Tell whether there is one value per query and key: scores and probabilities."""
        return self.axes.startswith("B N ")

    @property
    def token_axis(self) -> int:
        """Return the axis of the tokens: of pairwise values the third, of all others the second."""
        return 2 if self.is_pairwise else 1

    @property
    def key_axis(self) -> int | None:
        """Return the axis of the keys of the text model, None without one. Rings keep fewer than all of them."""
        axes = self.axes.split()
        return axes.index("S") if "S" in axes else None


UNREGISTERED = TapRow("", "", ())


# In the order of execution; names inside a layer, without `text.layer.{i}.`
LAYER_TAPS = {
    "in": TapRow("B T D", "residual stream", ("out of the layer before",)),
    "attn.pre_norm": TapRow("B T D", "rms_norm", ("in",)),
    "attn.q": TapRow("B T N H", "linear", ("attn.pre_norm",)),
    "attn.k": TapRow("B T K H", "linear", ("attn.pre_norm",)),
    "attn.v": TapRow("B T K H", "linear", ("attn.pre_norm",)),
    "attn.q_norm": TapRow("B T N H", "rms_norm", ("attn.q",)),
    "attn.k_norm": TapRow("B T K H", "rms_norm", ("attn.k",)),
    "attn.q_rope": TapRow("B T N H", "rotate", ("attn.q_norm",)),
    "attn.k_rope": TapRow("B T K H", "rotate", ("attn.k_norm",)),
    "cache.k": TapRow("B S K H", "cache", ("attn.k_rope",)),
    "cache.v": TapRow("B S K H", "cache", ("attn.v",)),
    "cache.positions": TapRow("B S", "cache", (), integers=True),
    "attn.visible": TapRow("B T 2", "visible_keys", (), integers=True),
    "attn.scores": TapRow("B N T S", "scores", ("attn.q_rope", "attn.k_rope")),
    "attn.probs": TapRow("B N T S", "softmax", ("attn.scores", "attn.visible")),
    "attn.mix": TapRow("B T N H", "mix", ("attn.probs", "attn.v")),
    "attn.out": TapRow("B T D", "linear", ("attn.mix",)),
    "attn.post_norm": TapRow("B T D", "rms_norm", ("attn.out",)),
    "mid": TapRow("B T D", "add", ("in", "attn.post_norm")),
    "ffn.pre_norm": TapRow("B T D", "rms_norm", ("mid",)),
    "ffn.gate": TapRow("B T F", "linear", ("ffn.pre_norm",)),
    "ffn.up": TapRow("B T F", "linear", ("ffn.pre_norm",)),
    "ffn.act": TapRow("B T F", "geglu", ("ffn.gate", "ffn.up")),
    "ffn.out": TapRow("B T D", "linear", ("ffn.act",)),
    "ffn.post_norm": TapRow("B T D", "rms_norm", ("ffn.out",)),
    "out": TapRow("B T D", "add", ("mid", "ffn.post_norm")),
}
TEXT_TAPS = {
    "text.embed": TapRow("B T D", "embed", ()),
    "text.final_norm": TapRow("B T D", "rms_norm", ("out of the last layer",)),
    "text.logits": TapRow("B T V", "linear", ("text.final_norm",)),
}
MERGED = {"model.merged": TapRow("B T D", "insert", ("text.embed", "vision.soft_tokens"))}
# B counts images here, D and N are the tower's. Names inside a block, without `vision.layer.{i}.`
VISION_LAYER_TAPS = {
    "in": TapRow("B P D", "residual stream", ("out of the block before",)),
    "attn.pre_norm": TapRow("B P D", "layer_norm", ("in",)),
    "attn.q": TapRow("B P N H", "linear", ("attn.pre_norm",)),
    "attn.k": TapRow("B P N H", "linear", ("attn.pre_norm",)),
    "attn.v": TapRow("B P N H", "linear", ("attn.pre_norm",)),
    "attn.scores": TapRow("B N P P", "scores", ("attn.q", "attn.k")),
    "attn.probs": TapRow("B N P P", "softmax", ("attn.scores",)),
    "attn.mix": TapRow("B P N H", "mix", ("attn.probs", "attn.v")),
    "attn.out": TapRow("B P D", "linear", ("attn.mix",)),
    "mid": TapRow("B P D", "add", ("in", "attn.out")),
    "ffn.pre_norm": TapRow("B P D", "layer_norm", ("mid",)),
    "ffn.up": TapRow("B P F", "linear", ("ffn.pre_norm",)),
    "ffn.act": TapRow("B P F", "gelu", ("ffn.up",)),
    "ffn.out": TapRow("B P D", "linear", ("ffn.act",)),
    "out": TapRow("B P D", "add", ("mid", "ffn.out")),
}
VISION_TAPS = {
    "vision.pixels": TapRow("B C Y X", "preprocess", ()),
    "vision.patch_embed": TapRow("B P D", "linear", ("vision.pixels",)),
    "vision.embed": TapRow("B P D", "add", ("vision.patch_embed",)),
    "vision.post_norm": TapRow("B P D", "layer_norm", ("out of the last block",)),
    "vision.pool": TapRow("B M D", "average_pool", ("vision.post_norm",)),
    "vision.soft_norm": TapRow("B M D", "rms_norm", ("vision.pool",)),
    "vision.soft_tokens": TapRow("B M D", "linear", ("vision.soft_norm",)),
}
