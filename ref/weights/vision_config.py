"""The vision tower's configuration as other projects write it: `config.json`, and the metadata of an mmproj file."""

from math import isqrt
from typing import Any

from ref.config import END_OF_IMAGE, START_OF_IMAGE, VOCABULARY, TextConfig, VisionConfig, check_numbers
from ref.errors import wanted
from ref.model.multimodal import soft_token_id

# field of VisionConfig: (key of vision_config, what `SiglipVisionConfig` of transformers 5.23 fills in, key of GGUF)
KEYS = {
    "width": ("hidden_size", 768, "embedding_length"),
    "layers": ("num_hidden_layers", 12, "block_count"),
    "heads": ("num_attention_heads", 12, "attention.head_count"),
    "ffn_width": ("intermediate_size", 3072, "feed_forward_length"),
    "patch": ("patch_size", 16, "patch_size"),
    "image": ("image_size", 224, "image_size"),
    "channels": ("num_channels", 3, None),  # GGUF does not say
    "layer_norm_eps": ("layer_norm_eps", 1e-6, "attention.layer_norm_epsilon"),
}
# Settings that would make it another model; a Gemma 3 has these values or is silent
FIXED = {"model_type": "siglip_vision_model", "hidden_act": "gelu_pytorch_tanh"}
FIXED_GGUF = {
    "clip.has_vision_encoder": True,
    "clip.has_audio_encoder": False,
    "clip.use_gelu": True,
    "clip.use_silu": False,
    "clip.vision.image_mean": [0.5, 0.5, 0.5],
    "clip.vision.image_std": [0.5, 0.5, 0.5],
}


def check_vision(config: VisionConfig, where: object = "config") -> VisionConfig:
    """Return the configuration unchanged, or refuse it by naming the first field that is impossible.

    Args:
        config: of the tower.
        where: the file, for refusals.

    Raises:
        BadInput: a size is not a positive integer, eps is not finite and positive, the image is no whole number of
            patches or has not 3 channels, heads do not divide the width, or the soft tokens are not the squares that
            the patches fall into.
    """
    check_numbers(config, where, "vision ")
    if config.width % config.heads:
        raise wanted("vision heads", where, f"a divisor of the width {config.width}", config.heads)
    if config.channels != 3:
        raise wanted("vision channels", where, "3: red, green, blue", config.channels)
    if config.image % config.patch:
        raise wanted("vision image", where, f"a multiple of the patch, {config.patch} pixels", config.image)
    tokens = isqrt(config.soft_tokens)
    if tokens**2 != config.soft_tokens or config.side % tokens:
        want = f"the square of a divisor of {config.side}, the patches along a side"
        raise wanted("soft tokens of an image", where, want, config.soft_tokens)
    return config


def vision_from_hugging_face(loaded: dict[str, Any], text: TextConfig, where: object = "config.json") -> VisionConfig:
    """Read the vision tower's configuration out of a multimodal `config.json`, sparse or full, of 4.x or 5.x.

    Args:
        loaded: the parsed file, of model_type gemma3.
        text: what `config_from_hugging_face` read out of it.
        where: its path, for refusals.

    Raises:
        BadInput: a tower that is not SigLIP, other ids around or in the place of images, values that `check_vision`
            refuses.

    Source: transformers 5.23 `Gemma3Config`, `SiglipVisionConfig`.
    Differs: `vision_use_head` is not read: Gemma 3 does not use that head, whether a file has it or not.
    """
    given = loaded.get("vision_config")
    if not isinstance(given, dict | None):
        raise wanted("vision_config", where, "an object", type(given).__name__)
    given = {key: value for key, value in (given or {}).items() if value is not None}
    for key, value in FIXED.items():
        if given.get(key, value) != value:
            raise wanted(f"vision_config.{key}", where, value, given[key])
    for name, value in _image_ids(text).items():
        for key in (f"{name}_token_index", f"{name}_token_id"):
            if loaded.get(key, value) not in (value, None):
                raise wanted(key, where, value, loaded[key])
    values: dict[str, Any] = {field: given.get(key, default) for field, (key, default, _) in KEYS.items()}
    tokens = loaded.get("mm_tokens_per_image")
    return check_vision(VisionConfig(**values, soft_tokens=256 if tokens is None else tokens), where)


def _image_ids(text: TextConfig) -> dict[str, int]:
    """Return the ids that a released model writes around an image and in its place; a toy's begin with its place."""
    ids = {"image": soft_token_id(text)}
    return ids | {"boi": START_OF_IMAGE, "eoi": END_OF_IMAGE} if text.vocabulary >= VOCABULARY else ids


def vision_to_hugging_face(v: VisionConfig, text: TextConfig) -> dict[str, Any]:
    """Return the keys that make a text `config.json` a multimodal one, beside `text_config`.

    Args:
        v: the tower's configuration.
        text: the text model's, for the ids of image tokens.

    Source: transformers 5.23 `Gemma3Config`; the released files also give the stop ids here.
    Differs: a vocabulary too small for the official ids has its last two around an image, and the next in its place.
    """
    toy = {"boi": text.vocabulary - 2, "eoi": text.vocabulary - 1}
    ids = {f"{name}_token_index": value for name, value in (toy | _image_ids(text)).items()}
    siglip = {key: getattr(v, field) for field, (key, _, _) in KEYS.items()}
    return ids | {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "mm_tokens_per_image": v.soft_tokens,
        "tie_word_embeddings": True,
        "vision_config": siglip | FIXED | {"attention_dropout": 0.0, "vision_use_head": False},
    }


def vision_from_gguf(metadata: dict[str, Any], text_width: int, where: object = "mmproj") -> VisionConfig:
    """Read the vision tower's configuration out of the metadata of an mmproj GGUF file.

    Args:
        metadata: key to value.
        text_width: D of the text model that the projector must lead to.
        where: the file, for refusals.

    Raises:
        BadInput: no mmproj file, one of another model or width, another normalisation, a key missing, or values that
            `check_vision` refuses.

    Source: llama.cpp `convert_hf_to_gguf.py` (`Gemma3VisionModel`); its runtime pools 4 x 4 patches where
        `projector.scale_factor` is silent.
    """
    architecture = metadata.get("general.architecture")
    if architecture != "clip":
        raise wanted("general.architecture", where, "clip, as an mmproj file has", architecture)
    kind = metadata.get("clip.projector_type", metadata.get("clip.vision.projector_type"))
    if kind != "gemma3":
        raise wanted("clip.projector_type", where, "gemma3", kind)
    for key, value in FIXED_GGUF.items():
        if metadata.get(key, value) != value:
            raise wanted(key, where, value, metadata[key])
    leads_to = metadata.get("clip.vision.projection_dim", text_width)
    if leads_to != text_width:
        raise wanted("clip.vision.projection_dim", where, f"{text_width}, the width of the text model", leads_to)
    values: dict[str, Any] = {"channels": 3, "soft_tokens": 1}
    for field, (_, _, key) in KEYS.items():
        if key is not None:
            values[field] = metadata.get(f"clip.vision.{key}")
            if values[field] is None:
                raise wanted(f"clip.vision.{key}", where, "a value", "none")
    eps = values["layer_norm_eps"]  # written as float32, as the text model's
    values["layer_norm_eps"] = float(f"{eps:.6g}") if isinstance(eps, float) else eps
    return _pooled(check_vision(VisionConfig(**values), where), metadata, where)


def _pooled(v: VisionConfig, metadata: dict[str, Any], where: object) -> VisionConfig:
    pool = metadata.get("clip.vision.projector.scale_factor", 4)
    if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1 or v.side % pool:
        want = f"a divisor of {v.side}, the patches along a side"
        raise wanted("clip.vision.projector.scale_factor", where, want, repr(pool))
    return v._replace(soft_tokens=(v.side // pool) ** 2)
