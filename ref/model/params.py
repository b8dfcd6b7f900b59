"""The parameters as the model sees them: canonical layout, one layer at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ref.config import TextConfig, VisionConfig

Weight = Any  # float array | uint16 bfloat16 bits | Blocks | ByRows, see ref.ops.linear; linear(x, w) is x @ widen(w).T


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
    embedding: Weight  # [V, D]
    layers: Sequence[LayerParams]
    final_norm: Weight  # [D]
    head: Weight | None = None  # [V, D]; None: tied, the embedding is the head, as in every released model

    @property
    def unembedding(self) -> Weight:
        """What makes the logits: the head, or the embedding that it is tied to."""
        return self.embedding if self.head is None else self.head


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


class VisionLayerParams(NamedTuple):
    """One SigLIP block. Linear weights [out, in]; LayerNorm gains are used as they are, without + 1."""

    attn_norm: Weight  # [D], D of the tower
    attn_norm_bias: Weight  # [D]
    q: Weight  # [D, D]
    q_bias: Weight  # [D]
    k: Weight  # [D, D]
    k_bias: Weight  # [D]
    v: Weight  # [D, D]
    v_bias: Weight  # [D]
    attn_out: Weight  # [D, D]
    attn_out_bias: Weight  # [D]
    ffn_norm: Weight  # [D]
    ffn_norm_bias: Weight  # [D]
    up: Weight  # [F, D]
    up_bias: Weight  # [F]
    down: Weight  # [D, F]
    down_bias: Weight  # [D]


class VisionParams(NamedTuple):
    """The SigLIP tower and the projector to the text model's width."""

    config: VisionConfig
    patch: Weight  # [D, C * patch * patch], D of the tower
    patch_bias: Weight  # [D]
    position: Weight  # [P, D]
    layers: Sequence[VisionLayerParams]
    post_norm: Weight  # [D]
    post_norm_bias: Weight  # [D]
    soft_norm: Weight  # [D], an RMSNorm: zero-centred, used as 1 + w
    projection: Weight  # [D, D of the text], used as x @ projection

    @property
    def text_width(self) -> int:
        """D of the text model that the soft tokens are for."""
        return self.projection.shape[1]


def vision_layer_shapes(v: VisionConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of one SigLIP block, by the field names of `VisionLayerParams`.

    Args:
        v: the configuration.

    Source: transformers 5.23 `modeling_siglip.py`.
    Differs: google-deepmind/gemma keeps heads apart ([D, N, H] and [N, H, D]) and stores kernels [in, out].
    """
    D, F = (v.width,), (v.ffn_width,)
    wide = {"up": F + D, "up_bias": F, "down": D + F}
    square = dict.fromkeys(("q", "k", "v", "attn_out"), D + D)
    return {field: (square | wide).get(field, D) for field in VisionLayerParams._fields}


def vision_shapes(v: VisionConfig, text_width: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array outside the blocks, by the field names of `VisionParams`.

    Args:
        v: the configuration.
        text_width: D of the text model.

    Source: transformers 5.23 `SiglipVisionEmbeddings`, `Gemma3MultiModalProjector`.
    Differs: files keep the patch weight as [D, C, patch, patch]; flattened in that order here.
    """
    D = (v.width,)
    return {
        "patch": (v.width, v.channels * v.patch**2),
        "patch_bias": D,
        "position": (v.side**2, v.width),
        "post_norm": D,
        "post_norm_bias": D,
        "soft_norm": D,
        "projection": (v.width, text_width),
    }
