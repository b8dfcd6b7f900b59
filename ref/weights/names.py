"""Tensor names of other projects' files, and how their arrays become ours. Every row is lossless both ways."""

from collections.abc import Iterator
from typing import Any

from ref.config import TextConfig
from ref.model.params import LayerParams, TextParams, VisionLayerParams, VisionParams, layer_shapes

EMBEDDING, FINAL_NORM, HEAD = "embedding", "final_norm", "head"

# field of LayerParams: (Hugging Face, GGUF)
LAYER_NAMES = {
    "pre_attn_norm": ("input_layernorm", "attn_norm"),
    "q": ("self_attn.q_proj", "attn_q"),
    "k": ("self_attn.k_proj", "attn_k"),
    "v": ("self_attn.v_proj", "attn_v"),
    "q_norm": ("self_attn.q_norm", "attn_q_norm"),
    "k_norm": ("self_attn.k_norm", "attn_k_norm"),
    "attn_out": ("self_attn.o_proj", "attn_output"),
    "post_attn_norm": ("post_attention_layernorm", "post_attention_norm"),
    "pre_ffn_norm": ("pre_feedforward_layernorm", "ffn_norm"),
    "gate": ("mlp.gate_proj", "ffn_gate"),
    "up": ("mlp.up_proj", "ffn_up"),
    "down": ("mlp.down_proj", "ffn_down"),
    "post_ffn_norm": ("post_feedforward_layernorm", "post_ffw_norm"),
}
assert tuple(LAYER_NAMES) == LayerParams._fields

# Text towers lie under one of these; the first is text-only files, then multimodal files before and after 4.52
HUGGING_FACE_PREFIXES = ("model.", "language_model.model.", "model.language_model.")
HEADS = ("lm_head.weight", "language_model.lm_head.weight")  # stored by some where it is tied, too
VISION_PREFIXES = (
    "vision_tower.",
    "model.vision_tower.",
    "multi_modal_projector.",
    "model.multi_modal_projector.",
)

# field of VisionLayerParams: (Hugging Face, GGUF); each has a weight and a bias
VISION_LAYER_NAMES = {
    "attn_norm": ("layer_norm1", "ln1"),
    "q": ("self_attn.q_proj", "attn_q"),
    "k": ("self_attn.k_proj", "attn_k"),
    "v": ("self_attn.v_proj", "attn_v"),
    "attn_out": ("self_attn.out_proj", "attn_out"),
    "ffn_norm": ("layer_norm2", "ln2"),
    "up": ("mlp.fc1", "ffn_up"),
    "down": ("mlp.fc2", "ffn_down"),
}
assert tuple(field + part for field in VISION_LAYER_NAMES for part in ("", "_bias")) == VisionLayerParams._fields

# field of VisionParams outside the blocks: (Hugging Face, GGUF)
VISION_NAMES = {
    "patch": ("embeddings.patch_embedding.weight", "v.patch_embd.weight"),
    "patch_bias": ("embeddings.patch_embedding.bias", "v.patch_embd.bias"),
    "position": ("embeddings.position_embedding.weight", "v.position_embd.weight"),
    "post_norm": ("post_layernorm.weight", "v.post_ln.weight"),
    "post_norm_bias": ("post_layernorm.bias", "v.post_ln.bias"),
    "soft_norm": ("mm_soft_emb_norm.weight", "mm.soft_emb_norm.weight"),
    "projection": ("mm_input_projection_weight", "mm.input_projection.weight"),  # a bare parameter, no `.weight`
}
assert {*VISION_NAMES, "config", "layers"} == set(VisionParams._fields)
PROJECTOR = ("soft_norm", "projection")  # the rest is the tower
# Fields of all four that are held as files hold them; vectors and positions are held as floats
MATRICES = (EMBEDDING, HEAD, "q", "k", "v", "attn_out", "gate", "up", "down", "patch", "projection")

# The tower lies under one of these, the projector under one of those: before and after 4.52, and of either without
# the inner level, which SiglipVisionModel of transformers 5 has no more
TOWER_PREFIXES = (
    "vision_tower.vision_model.",
    "model.vision_tower.vision_model.",
    "vision_tower.",
    "model.vision_tower.",
)
PROJECTOR_PREFIXES = ("multi_modal_projector.", "model.multi_modal_projector.")


def text_tensors(params: TextParams) -> Iterator[tuple[str, int | None, Any]]:
    """Yield (field, layer or None outside layers, Weight) of every tensor of the text model.

    Args:
        params: of the text model.

    Source: the order of transformers' files.
    """
    yield EMBEDDING, None, params.embedding
    for i, layer in enumerate(params.layers):
        for field in LAYER_NAMES:
            yield field, i, getattr(layer, field)
    yield FINAL_NORM, None, params.final_norm
    if params.head is not None:
        yield HEAD, None, params.head


def text_shapes(c: TextConfig, untied: bool = False) -> Iterator[tuple[str, int | None, tuple[int, ...]]]:
    """Yield (field, layer or None outside layers, shape) of every tensor of the text model, as `text_tensors` does.

    Args:
        c: the configuration.
        untied: whether the head is a tensor of its own.

    Source: `ref.model.params.layer_shapes`.
    """
    inside = layer_shapes(c)
    yield EMBEDDING, None, (c.vocabulary, c.width)
    for i in range(c.layers):
        for field in LAYER_NAMES:
            yield field, i, inside[field]
    yield FINAL_NORM, None, (c.width,)
    if untied:
        yield HEAD, None, (c.vocabulary, c.width)


def vision_tensors(vision: VisionParams) -> Iterator[tuple[str, int | None, Any]]:
    """Yield (field, block or None outside blocks, Weight) of every tensor of tower and projector.

    Args:
        vision: tower and projector.

    Source: own order.
    """
    for field in VISION_NAMES:
        yield field, None, getattr(vision, field)
    for i, layer in enumerate(vision.layers):
        for field, weight in layer._asdict().items():
            yield field, i, weight


def is_norm(field: str) -> bool:
    """Tell whether a parameter is an RMSNorm gain, by its name here."""
    return field.endswith("norm")


def hugging_face_name(field: str, layer: int | None, prefix: str = "model.") -> str:
    """Return the safetensors name of a parameter.

    Args:
        field: a field of `LayerParams`, `embedding`, `final_norm` or `head`.
        layer: its index, None outside layers.
        prefix: one of HUGGING_FACE_PREFIXES.

    Source: the released checkpoints' headers (GEMMA 3 4b-it before 4.52, 270m text-only).
    Differs: see HUGGING_FACE_PREFIXES.
    """
    if field == HEAD:
        return HEADS[1] if prefix == HUGGING_FACE_PREFIXES[1] else HEADS[0]
    if layer is None:
        return prefix + {EMBEDDING: "embed_tokens.weight", FINAL_NORM: "norm.weight"}[field]
    return f"{prefix}layers.{layer}.{LAYER_NAMES[field][0]}.weight"


def gguf_name(field: str, layer: int | None) -> str:
    """Return the GGUF name of a parameter; arguments as `hugging_face_name`.

    Source: llama.cpp `convert_hf_to_gguf.py`.
    Differs: the values of norms, see `ref.weights.load`.
    """
    if layer is None:
        return {EMBEDDING: "token_embd.weight", FINAL_NORM: "output_norm.weight", HEAD: "output.weight"}[field]
    return f"blk.{layer}.{LAYER_NAMES[field][1]}.weight"


def vision_name(
    field: str, layer: int | None, tower: str = TOWER_PREFIXES[0], projector: str = PROJECTOR_PREFIXES[0]
) -> str:
    """Return the safetensors name of a parameter of the vision tower or the projector.

    Args:
        field: a field of `VisionLayerParams` or `VisionParams`.
        layer: its index, None outside blocks.
        tower: one of TOWER_PREFIXES.
        projector: one of PROJECTOR_PREFIXES.

    Source: transformers 5.23 `SiglipVisionModel`, `Gemma3MultiModalProjector`; `convert_gemma3_weights.py`.
    Differs: google-deepmind/gemma names both parts otherwise and keeps kernels [in, out].
    """
    if layer is None:
        return (projector if field in PROJECTOR else tower) + VISION_NAMES[field][0]
    return f"{tower}encoder.layers.{layer}.{_module(field, 0)}"


def mmproj_name(field: str, layer: int | None) -> str:
    """Return the name that an mmproj GGUF file has for a parameter; arguments as `vision_name`.

    Source: llama.cpp `convert_hf_to_gguf.py`; the `gguf` package's TENSOR_NAMES.
    Differs: older files of other models call fc1 `ffn_down` and fc2 `ffn_up`.
    """
    return VISION_NAMES[field][1] if layer is None else f"v.blk.{layer}.{_module(field, 1)}"


def _module(field: str, foreign: int) -> str:
    module = VISION_LAYER_NAMES[field.removesuffix("_bias")][foreign]
    return f"{module}.{'bias' if field.endswith('_bias') else 'weight'}"
