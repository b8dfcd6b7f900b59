"""Listening to MLX's modules, which have no hooks: while a capture runs, each has a class of its own that listens.

Its base is the class that it had, so that attributes, weights and type checks stay what they were.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np

from ref.capture.mlx.model import import_mlx
from ref.capture.places import Place, Table
from ref.capture.values import Values

# of `ref.capture.places`; queries are rotated before keys
TABLE: Table = {
    "layers.0": ("text.embed", "input"),
    "layers.{i}": [("L.in", "input"), "L.out"],
    "layers.{i}.input_layernorm": "L.attn.pre_norm",
    "layers.{i}.self_attn.q_proj": ("L.attn.q", "B T (N H)"),
    "layers.{i}.self_attn.k_proj": ("L.attn.k", "B T (K H)"),
    "layers.{i}.self_attn.v_proj": ("L.attn.v", "B T (K H)"),
    "layers.{i}.self_attn.q_norm": ("L.attn.q_norm", "B N T H"),
    "layers.{i}.self_attn.k_norm": ("L.attn.k_norm", "B K T H"),
    "layers.{i}.self_attn.rope": [
        ("L.attn.q_rope", "B N T H", "output, call 0"),
        ("L.attn.k_rope", "B K T H", "output, call 1"),
    ],
    "layers.{i}.self_attn.o_proj": [("L.attn.mix", "B T (N H)", "input"), "L.attn.out"],
    "layers.{i}.post_attention_layernorm": "L.attn.post_norm",
    "layers.{i}.pre_feedforward_layernorm": [("L.mid", "input"), "L.ffn.pre_norm"],
    "layers.{i}.mlp.gate_proj": "L.ffn.gate",
    "layers.{i}.mlp.up_proj": "L.ffn.up",
    "layers.{i}.mlp.down_proj": [("L.ffn.act", "input"), "L.ffn.out"],
    "layers.{i}.post_feedforward_layernorm": "L.ffn.post_norm",
    "norm": "text.final_norm",
}
# of mlx-vlm's whole model; its convolution has channels last
VISION: Table = {
    "vision_tower.vision_model.embeddings.patch_embedding": [
        ("vision.pixels", "B Y X C", "input"),
        "vision.patch_embed",
    ],
    "vision_tower.vision_model.embeddings": "vision.embed",
    "vision_tower.vision_model.encoder.layers.{i}": [("V.in", "input"), "V.out"],
    "vision_tower.vision_model.encoder.layers.{i}.layer_norm1": "V.attn.pre_norm",
    "vision_tower.vision_model.encoder.layers.{i}.self_attn.q_proj": ("V.attn.q", "B P (N H)"),
    "vision_tower.vision_model.encoder.layers.{i}.self_attn.k_proj": ("V.attn.k", "B P (N H)"),
    "vision_tower.vision_model.encoder.layers.{i}.self_attn.v_proj": ("V.attn.v", "B P (N H)"),
    "vision_tower.vision_model.encoder.layers.{i}.self_attn.out_proj": [
        ("V.attn.mix", "B P (N H)", "input"),
        "V.attn.out",
    ],
    "vision_tower.vision_model.encoder.layers.{i}.layer_norm2": [("V.mid", "input"), "V.ffn.pre_norm"],
    "vision_tower.vision_model.encoder.layers.{i}.mlp.fc1": "V.ffn.up",
    "vision_tower.vision_model.encoder.layers.{i}.mlp.fc2": [("V.ffn.act", "input"), "V.ffn.out"],
    "vision_tower.vision_model.post_layernorm": "vision.post_norm",
    "multi_modal_projector.mm_soft_emb_norm": [("vision.pool", "input"), "vision.soft_norm"],
    "multi_modal_projector": "vision.soft_tokens",
}


def to_numpy(value: Any) -> np.ndarray:
    """Return an array of MLX as NumPy's, a copy; bfloat16 as `ml_dtypes.bfloat16`, bit for bit.

    Source: MLX 0.32.4, whose arrays have no bfloat16 for the buffer protocol; float32 holds all its values.
    """
    mx = import_mlx().core
    if value.dtype == mx.bfloat16:
        return np.array(value.astype(mx.float32)).astype(ml_dtypes.bfloat16)
    return np.array(value)


@contextmanager
def hearing(modules: dict[str, Any], places: list[Place], values: Values) -> Iterator[None]:
    """Listen to places while a block runs.

    Args:
        modules: by name.
        places: of the table.
        values: is told.
    """
    named: dict[int, tuple[Any, list[Place]]] = {}
    for place in places:
        named.setdefault(id(modules[place.module]), (modules[place.module], []))[1].append(place)
    before = [(module, type(module)) for module, _ in named.values()]
    try:
        for module, own in named.values():
            module.__class__ = _listening(type(module), own, values)
        yield
    finally:
        for module, kind in before:
            module.__class__ = kind


def _listening(kind: type, places: list[Place], values: Values) -> type:
    by_side = defaultdict(list)
    for place in places:
        by_side[place.side].append(place)

    def tell(side: str, value: Any) -> None:
        for place in by_side[side]:
            if values.wants(place):
                values.take(place, to_numpy(value))

    def call(self, *args, **named):
        given = args[0] if args else next(iter(named.values()), None)
        tell("input", given)
        out = kind.__call__(self, *args, **named)  # type: ignore[operator]
        tell("output", out[0] if isinstance(out, (tuple, list)) else out)
        return out

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
