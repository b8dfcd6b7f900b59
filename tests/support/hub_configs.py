"""config.json of the multimodal sizes as the hub has them, and the keys of transformers 5."""

from ref.config import TextConfig

EXTRA_ROWS = 64
# The hub's config.json of the multimodal sizes says this much of the text model and no more
SPARSE = {
    "4b": {"hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34},
    "12b": {"hidden_size": 3840, "intermediate_size": 15_360, "num_hidden_layers": 48, "num_attention_heads": 16,
            "num_key_value_heads": 8},
    "27b": {"hidden_size": 5376, "intermediate_size": 21_504, "num_hidden_layers": 62, "num_attention_heads": 32,
            "num_key_value_heads": 16, "head_dim": 128, "query_pre_attn_scalar": 168},
}  # fmt: skip
SHARED = {
    "model_type": "gemma3_text",
    "sliding_window": 1024,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
}
NESTED = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}
# The same in all three; it leaves out what the class fills in: channels, activation, eps
EYE = {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model",
       "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False}  # fmt: skip


def sparse(size: str) -> dict:
    return {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "image_token_index": 262_144,
            "boi_token_index": 255_999, "eoi_token_index": 256_000, "mm_tokens_per_image": 256,
            "text_config": SPARSE[size] | SHARED, "vision_config": dict(EYE)}  # fmt: skip


def as_written(c: TextConfig) -> TextConfig:
    return c._replace(vocabulary=c.vocabulary + EXTRA_ROWS)
