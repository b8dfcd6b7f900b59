"""Tensor names of other projects' files, and how their arrays become ours. Every row is lossless both ways."""

from ref.model.params import LayerParams

EMBEDDING, FINAL_NORM = "embedding", "final_norm"

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
TIED_HEADS = ("lm_head.weight", "language_model.lm_head.weight")
VISION_PREFIXES = (
    "vision_tower.",
    "model.vision_tower.",
    "multi_modal_projector.",
    "model.multi_modal_projector.",
)


def is_norm(field: str) -> bool:
    """Tell whether a parameter is an RMSNorm gain, by its name here."""
    return field.endswith("norm")


def hugging_face_name(field: str, layer: int | None, prefix: str = "model.") -> str:
    """Return the safetensors name of a parameter.

    Args:
        field: a field of `LayerParams`, `embedding` or `final_norm`.
        layer: its index, None outside layers.
        prefix: one of HUGGING_FACE_PREFIXES.

    Source: the released checkpoints' headers (GEMMA 3 4b-it before 4.52, 270m text-only).
    Differs: see HUGGING_FACE_PREFIXES.
    """
    if layer is None:
        return prefix + {EMBEDDING: "embed_tokens.weight", FINAL_NORM: "norm.weight"}[field]
    return f"{prefix}layers.{layer}.{LAYER_NAMES[field][0]}.weight"


def gguf_name(field: str, layer: int | None) -> str:
    """Return the GGUF name of a parameter; arguments as `hugging_face_name`.

    Source: llama.cpp `convert_hf_to_gguf.py`.
    Differs: the values of norms, see `ref.weights.load`.
    """
    if layer is None:
        return {EMBEDDING: "token_embd.weight", FINAL_NORM: "output_norm.weight"}[field]
    return f"blk.{layer}.{LAYER_NAMES[field][1]}.weight"
