"""Configurations as other projects write them: Hugging Face `config.json` and GGUF metadata."""

from pathlib import Path
from typing import Any

from ref.config import TextConfig, check_config, size_name
from ref.errors import wanted
from ref.untrusted import map_file, parse_json

# What `Gemma3TextConfig` of transformers 5.23 fills in where a sparse config.json is silent
CLASS_DEFAULTS: dict[str, Any] = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
}
# Settings that would make it another model; a Gemma 3 has these values or is silent
FIXED = {
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "use_bidirectional_attention": False,
}
LARGEST_JSON = 16 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, refusing duplicate keys, NaN and files over 16 MB.

    Args:
        path: the file.

    Raises:
        BadInput: missing, too large, not JSON, not an object, or a key twice.
    """
    data = map_file(path)
    if len(data) > LARGEST_JSON:
        raise wanted("size", path, f"at most {LARGEST_JSON} bytes", len(data))
    return parse_json(data[:].strip(), path, "JSON")


def config_from_hugging_face(loaded: dict[str, Any], where: object = "config.json") -> TextConfig:
    """Read a text configuration out of a `config.json`, text-only or multimodal, sparse or full, of 4.x or 5.x.

    Args:
        loaded: the parsed file.
        where: its path, for refusals.

    Raises:
        BadInput: another model_type, a setting that Gemma 3 does not have, layer types of another pattern, RoPE
            scaling other than linear, or values that `check_config` refuses.

    Source: transformers 5.23 `Gemma3TextConfig`.
    Differs: 4.x writes rope_theta, rope_local_base_freq and rope_scaling; 5.x nests them in rope_parameters.
    """
    kind = loaded.get("model_type")
    if kind not in ("gemma3", "gemma3_text"):
        raise wanted("model_type", where, "gemma3 or gemma3_text", kind)
    text = loaded.get("text_config", loaded)
    if not isinstance(text, dict):
        raise wanted("text_config", where, "an object", type(text).__name__)
    for key, value in FIXED.items():
        for part in (loaded, text):  # a multimodal file may say it outside
            if part.get(key, value) != value:
                raise wanted(key, where, value, part[key])
    get = {**CLASS_DEFAULTS, **{k: v for k, v in text.items() if v is not None}}
    local, base, factor = _rope(text, get, where)
    scalar = get["query_pre_attn_scalar"]
    if isinstance(scalar, bool) or not isinstance(scalar, (int, float)) or not 0 < scalar < 1e300:
        raise wanted("query_pre_attn_scalar", where, "a finite number > 0", scalar)
    config = TextConfig(
        name=size_name(get["num_hidden_layers"], get["hidden_size"]),
        width=get["hidden_size"],
        layers=get["num_hidden_layers"],
        query_heads=get["num_attention_heads"],
        kv_heads=get["num_key_value_heads"],
        head_dim=get["head_dim"],
        ffn_width=get["intermediate_size"],
        query_scale=scalar**-0.5,  # Hugging Face stores the value still to be raised to -1/2
        window=get["sliding_window"],
        max_positions=get["max_position_embeddings"],
        rope_factor=factor,
        vocabulary=get["vocab_size"],
        rope_base_local=local,
        rope_base_global=base,
        global_every=_global_every(get, where),
        rms_eps=get["rms_norm_eps"],
    )
    return check_config(config, where)


def _rope(text, get, where):
    """Return (local base, global base, global factor), from the 4.x or the 5.x keys."""
    nested = text.get("rope_parameters")
    if nested is None:
        scaling = text.get("rope_scaling") or {}
        return get["rope_local_base_freq"], get["rope_theta"], _factor(scaling, "rope_scaling", where)
    for kind in ("full_attention", "sliding_attention"):
        if not isinstance(nested, dict) or not isinstance(nested.get(kind), dict):
            raise wanted(f"rope_parameters.{kind}", where, "an object", nested)
    full, sliding = nested["full_attention"], nested["sliding_attention"]
    if _factor(sliding, "rope_parameters.sliding_attention", where) != 1.0:
        raise wanted("rope_parameters.sliding_attention", where, "no scaling on local layers", sliding)
    local, base = sliding.get("rope_theta", 10_000.0), full.get("rope_theta", 1_000_000.0)
    return local, base, _factor(full, "rope_parameters.full_attention", where)


def _factor(scaling, key, where) -> float:
    if not isinstance(scaling, dict):
        raise wanted(key, where, "an object", scaling)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear"):
        raise wanted(f"{key}.rope_type", where, "default or linear", kind)
    if kind == "linear" and "factor" not in scaling:
        raise wanted(f"{key}.factor", where, "a number, as rope_type is linear", "none")
    return scaling["factor"] if kind == "linear" else 1.0


def _global_every(get, where) -> int:
    """Return the period of global layers, from `layer_types` where it is written, else the pattern's length."""
    types, pattern = get.get("layer_types"), get.get("_sliding_window_pattern", get["sliding_window_pattern"])
    if types is None:
        return pattern
    names = ["sliding_attention", "full_attention"]
    if not isinstance(types, list) or len(types) != get["num_hidden_layers"]:
        raise wanted("layer_types", where, f"a list of num_hidden_layers = {get['num_hidden_layers']}", types)
    every = types.index(names[1]) + 1 if names[1] in types else len(types) + 1
    if types != [names[(i + 1) % every == 0] for i in range(len(types))]:
        raise wanted("layer_types", where, "sliding_attention with full_attention at a fixed period", types)
    return every


def config_from_gguf(metadata: dict[str, Any], vocabulary: int, where: object = "gguf") -> TextConfig:
    """Read a text configuration out of GGUF metadata, adding the constants that GGUF leaves to the runtime.

    Args:
        metadata: key to value.
        vocabulary: rows of `token_embd.weight`.
        where: the file, for refusals.

    Raises:
        BadInput: another architecture, a key missing, or values that `check_config` refuses.

    Source: llama.cpp `src/llama-model.cpp`: a global layer every 6, local base 10,000 unscaled, and the query scale
        (width / heads)^-1/2 for 62 layers, else head_dim^-1/2.
    Differs: quantisation-aware GGUF files once carried a wrong RoPE factor (ollama issue 12360).
    """
    if metadata.get("general.architecture") != "gemma3":
        raise wanted("general.architecture", where, "gemma3", metadata.get("general.architecture"))

    def get(key, default=None):
        value = metadata.get(f"gemma3.{key}", default)
        if value is None:
            raise wanted(f"gemma3.{key}", where, "a value", "none")
        return value

    heads, width, head_dim = get("attention.head_count"), get("embedding_length"), get("attention.key_length")
    layers = get("block_count")
    if get("attention.value_length", head_dim) != head_dim:
        raise wanted("gemma3.attention.value_length", where, f"key_length = {head_dim}", get("attention.value_length"))
    positive = all(isinstance(n, int) and n > 0 for n in (heads, width, head_dim))
    if not positive or width < heads:
        got = (heads, width, head_dim)
        raise wanted("head_count, embedding_length, key_length", where, "integers > 0, no more heads than width", got)
    eps = get("attention.layer_norm_rms_epsilon")
    scaled = _gguf_scaled(metadata, where)
    config = TextConfig(
        name=size_name(layers, width),
        width=width,
        layers=layers,
        query_heads=heads,
        kv_heads=get("attention.head_count_kv"),
        head_dim=head_dim,
        ffn_width=get("feed_forward_length"),
        query_scale=(width // heads if layers == 62 else head_dim) ** -0.5,
        window=get("attention.sliding_window"),
        max_positions=get("context_length"),
        rope_factor=get("rope.scaling.factor") if scaled else 1.0,
        vocabulary=vocabulary,
        rope_base_local=get("rope.freq_base_swa", 10_000.0),
        rope_base_global=get("rope.freq_base", 1_000_000.0),
        # written as float32; the exact 1e-6 is what every implementation but llama.cpp uses
        rms_eps=float(f"{eps:.6g}") if isinstance(eps, float) else eps,
    )
    return check_config(config, where)


def _gguf_scaled(metadata: dict[str, Any], where: object) -> bool:
    """Tell whether global layers scale positions, having refused what would make it another model."""
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if metadata.get(f"gemma3.{key}"):
            raise wanted(f"gemma3.{key}", where, "none", metadata[f"gemma3.{key}"])
    kind = metadata.get("gemma3.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise wanted("gemma3.rope.scaling.type", where, "none or linear", kind)
    return kind == "linear"
