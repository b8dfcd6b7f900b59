"""The parameters as the model sees them: canonical layout, one layer at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ref.config import TextConfig

Weight = Any  # float array | uint16 bfloat16 bits | ref.ops.blocks.Blocks; linear(x, w) means x @ widen(w).T


class LayerParams(NamedTuple):
    """One decoder layer. Linear weights [out, in]; norms zero-centred, used as 1 + w."""

    pre_attn_norm: Weight  # [D]
    q: Weight  # [N*H, D]
    k: Weight  # [K*H, D]
    v: Weight  # [K*H, D]
    q_norm: Weight  # [H]
    k_norm: Weight  # [H]
    attn_out: Weight  # [D, N*H]
    post_attn_norm: Weight  # [D]
    pre_ffn_norm: Weight  # [D]
    gate: Weight  # [F, D]
    up: Weight  # [F, D]
    down: Weight  # [D, F]
    post_ffn_norm: Weight  # [D]


class TextParams(NamedTuple):
    """The text model. `layers` may build each layer when it is asked for, so that 27B need not lie in memory."""

    config: TextConfig
    embedding: Weight  # [V, D], also the head
    layers: Sequence[LayerParams]
    final_norm: Weight  # [D]


def layer_shapes(c: TextConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of one layer, by the field names of `LayerParams`.

    Args:
        c: the configuration.

    Source: transformers 5.23 `modeling_gemma3.py`; the released safetensors headers.
    Differs: google-deepmind/gemma keeps heads apart ([N, D, H]); gemma_pytorch fuses q, k and v.
    """
    queries, keys = c.query_heads * c.head_dim, c.kv_heads * c.head_dim
    D, F, H = (c.width,), (c.ffn_width,), (c.head_dim,)
    return {
        "pre_attn_norm": D,
        "q": (queries, c.width),
        "k": (keys, c.width),
        "v": (keys, c.width),
        "q_norm": H,
        "k_norm": H,
        "attn_out": (c.width, queries),
        "post_attn_norm": D,
        "pre_ffn_norm": D,
        "gate": F + D,
        "up": F + D,
        "down": D + F,
        "post_ffn_norm": D,
    }
