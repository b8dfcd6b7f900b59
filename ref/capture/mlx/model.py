"""mlx-lm's Gemma 3: imported, built from our weights, and described as ours."""

from importlib import import_module, metadata
from typing import Any, NamedTuple

import numpy as np

from ref.capture.common import tower_config
from ref.config import TextConfig, VisionConfig, size_name
from ref.errors import pip_install, wanted
from ref.ops.linear import widen_jit
from ref.weights.export import named_weights
from ref.weights.resolve import Loaded

DTYPES = ("float32", "bfloat16", "float16")


class Parts(NamedTuple):
    """What is used of MLX."""

    core: Any
    nn: Any


def import_mlx() -> Parts:
    """Import MLX.

    Raises:
        BadInput: it is not installed or does not load.
    """
    try:
        return Parts(import_module("mlx.core"), import_module("mlx.nn"))
    except (ImportError, OSError) as error:
        got = " ".join(str(error).split())
        raise wanted("mlx", "capture", f"an install that loads ({pip_install('mlx')})", got) from None


def text_model(model: Any) -> Any:
    """Return the text model that runs: of mlx-vlm its language model.

    Raises:
        BadInput: no Gemma 3 of mlx-lm or mlx-vlm.
    """
    inner = getattr(model, "language_model", model)
    if not hasattr(getattr(inner, "model", None), "layers") or not hasattr(_arguments(inner), "query_pre_attn_scalar"):
        raise wanted("model", "capture", "a loaded Gemma 3 of mlx-lm or mlx-vlm", type(model).__name__)
    return inner


def _arguments(model: Any) -> Any:
    return getattr(model, "args", None) or getattr(model, "config", None)


def config_of(model: Any) -> TextConfig:
    """Return a model's configuration under our names.

    Args:
        model: from `text_model`.

    Source: mlx-lm 0.32.2 `models/gemma3_text.py` `ModelArgs`; mlx-vlm 0.7.10 `models/gemma3/config.py` `TextConfig`.
    """
    a = _arguments(model)
    scaling = a.rope_scaling or {}
    return TextConfig(
        name=size_name(a.num_hidden_layers, a.hidden_size),
        width=a.hidden_size,
        layers=a.num_hidden_layers,
        query_heads=a.num_attention_heads,
        kv_heads=a.num_key_value_heads,
        head_dim=a.head_dim,
        ffn_width=a.intermediate_size,
        query_scale=a.query_pre_attn_scalar**-0.5,
        window=a.sliding_window,
        max_positions=a.max_position_embeddings,
        rope_factor=float(scaling.get("factor") or 1.0),
        vocabulary=a.vocab_size,
        rope_base_local=float(a.rope_local_base_freq),
        rope_base_global=float(getattr(a, "rope_theta", None) or a.rope_global_base_freq),
        global_every=a.sliding_window_pattern,
        rms_eps=a.rms_norm_eps,
    )


def vision_config_of(model: Any) -> VisionConfig:
    """Return the configuration of the tower of a whole model of mlx-vlm under our names.

    Raises:
        BadInput: the model has no tower.

    Source: mlx-vlm 0.7.10 `models/gemma3/config.py` `VisionConfig`.
    """
    if not hasattr(model, "vision_tower") or not hasattr(model, "get_input_embeddings"):
        raise wanted("pixel_values", "capture", "a whole model of mlx-vlm, with its tower", type(model).__name__)
    return tower_config(model.config.vision_config, model.config.text_config.mm_tokens_per_image)


def build_from(loaded: Loaded, dtype: str = "float32") -> Any:
    """Build mlx-lm's model of loaded weights; their text part.

    Args:
        loaded: from `ref.load`.
        dtype: float32, bfloat16 or float16, of weights and arithmetic.

    Raises:
        BadInput: another dtype, or mlx-lm is missing.

    Rounding: weights once to dtype, to nearest even.
    Source: mlx-lm 0.32.2 `utils.load_model`.
    """
    if dtype not in DTYPES:
        raise wanted("dtype", "capture", ", ".join(DTYPES), dtype)
    mx = import_mlx().core
    try:
        gemma3 = import_module("mlx_lm.models.gemma3_text")
    except ImportError as error:
        raise wanted("mlx-lm", "capture", pip_install("mlx"), f"no {error.name}") from None
    c = loaded.params.config
    model = gemma3.Model(gemma3.ModelArgs(**_arguments_of(c)))
    tensors = {}
    for name, weight in named_weights(loaded.params, "model."):
        tensors[name] = mx.array(np.require(widen_jit(weight), np.float32)).astype(getattr(mx, dtype))
    model.load_weights(list(model.sanitize(tensors).items()))
    return model


def _arguments_of(c: TextConfig) -> dict[str, Any]:
    return {
        "model_type": "gemma3_text",
        "hidden_size": c.width,
        "num_hidden_layers": c.layers,
        "intermediate_size": c.ffn_width,
        "num_attention_heads": c.query_heads,
        "head_dim": c.head_dim,
        "rms_norm_eps": c.rms_eps,
        "vocab_size": c.vocabulary,
        "num_key_value_heads": c.kv_heads,
        "rope_theta": c.rope_base_global,
        "rope_local_base_freq": c.rope_base_local,
        "query_pre_attn_scalar": c.query_scale**-2,
        "sliding_window": c.window,
        "sliding_window_pattern": c.global_every,
        "max_position_embeddings": c.max_positions,
        "rope_scaling": None if c.rope_factor == 1 else {"rope_type": "linear", "factor": c.rope_factor},
    }


def version_of(model: Any) -> dict[str, str]:
    """Name the producer: its version is that of the library that the model's class is of."""
    name = type(model).__module__.split(".")[0].replace("_", "-")
    try:
        return {"name": "mlx", "version": f"{name} {metadata.version(name)}"}
    except metadata.PackageNotFoundError:  # the class is its owner's
        return {"name": "mlx", "version": metadata.version("mlx")}
