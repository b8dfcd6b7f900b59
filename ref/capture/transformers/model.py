"""transformers' Gemma 3 models: built from any weights that the command line names, and described as ours."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ref.capture.common import tower_config
from ref.config import TextConfig, VisionConfig, size_name
from ref.errors import wanted
from ref.ops.linear import widen_jit
from ref.weights.config_files import read_json
from ref.weights.export import checkpoint_config, named_vision_weights, named_weights
from ref.weights.names import (
    HUGGING_FACE_PREFIXES,
    PROJECTOR_PREFIXES,
    TOWER_PREFIXES,
)
from ref.weights.resolve import TOYS, Loaded, load

DTYPES = ("float32", "bfloat16", "float16", "float64")
ATTENTION = ("eager", "sdpa")
TOWER, PROJECTOR = TOWER_PREFIXES[3], PROJECTOR_PREFIXES[1]  # of the modules of transformers 5


def import_transformers() -> tuple[Any, Any]:
    """Import torch and transformers 5.

    Returns:
        The two modules.

    Raises:
        BadInput: one is not installed or does not load, or transformers is older; says what to install, or why.
    """
    want = 'pip install -e ".[transformers]"'
    try:
        torch, transformers = import_module("torch"), import_module("transformers")
        if int(transformers.__version__.split(".")[0]) < 5:
            raise wanted("transformers", "capture", f"version 5 ({want})", transformers.__version__)
        import_module("transformers.models.gemma3.modeling_gemma3")
    except ModuleNotFoundError as error:
        raise wanted("transformers", "capture", want, f"no {error.name}") from None
    except (ImportError, OSError, RuntimeError) as error:  # a library of it, perhaps
        got = f"one that does not load: {' '.join(str(error).split())}"
        raise wanted("transformers", "capture", f"an install that loads ({want})", got) from None
    return torch, transformers


def build_model(weights: str, dtype: str = "float32", attention: str = "eager", mmproj: str | None = None) -> Any:
    """Build transformers' model of weights as `--weights` names them.

    Args:
        weights: a Hugging Face folder goes through `from_pretrained`; anything else that `ref.load` takes is decoded
            here and copied into the model.
        dtype: float32, bfloat16, float16 or float64, of weights and arithmetic; from_pretrained's meaning of it, so
            that the rotary frequencies stay float32.
        attention: eager or sdpa.
        mmproj: the vision tower of a `.gguf` file.

    Returns:
        A Gemma3ForCausalLM, or where the weights see a Gemma3ForConditionalGeneration; in eval mode, on the CPU.

    Raises:
        BadInput: another dtype or attention, weights that `ref.load` refuses, or transformers missing.

    Rounding: weights once to dtype, to nearest even.
    Source: transformers 5.23 `PreTrainedModel.from_pretrained`.
    Differs: transformers' own reading of GGUF files takes 1 off the norms in float32.
    """
    how = _how(dtype, attention)
    loaded = load(weights, "file", mmproj)  # refuses a broken folder in one line, too
    if not _is_folder(loaded, weights):
        return build_from(loaded, dtype, attention)
    _, transformers = import_transformers()
    sees = read_json(Path(weights) / "config.json")["model_type"] == "gemma3"
    auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    return auto.from_pretrained(weights, local_files_only=True, **how).eval()


def _how(dtype: str, attention: str) -> dict[str, Any]:
    if dtype not in DTYPES:
        raise wanted("dtype", "capture", ", ".join(DTYPES), dtype)
    if attention not in ATTENTION:
        raise wanted("attention", "capture", " or ".join(ATTENTION), attention)
    return {"dtype": getattr(import_transformers()[0], dtype), "attn_implementation": attention}


def _is_folder(loaded: Loaded, weights: str) -> bool:
    return loaded.name == weights and weights not in (*TOYS, "270m") and Path(weights).is_dir()


def build_from(loaded: Loaded, dtype: str = "float32", attention: str = "eager") -> Any:
    """Build transformers' model of loaded weights; without a tower where `loaded.vision` is None.

    Args:
        loaded: from `ref.load`.
        dtype, attention: as `build_model`.

    Returns:
        As `build_model`.

    Raises:
        BadInput: as `build_model`; a configuration that transformers has no words for.

    Rounding: weights once to dtype, to nearest even.
    Source: transformers 5.23 `PreTrainedModel._from_config`.
    """
    how = _how(dtype, attention)
    torch, transformers = import_transformers()
    text, vision = loaded.params, loaded.vision
    content, empty = checkpoint_config(text, vision), import_module("transformers.initialization").no_init_weights
    with empty():  # drawing weights takes longer than copying them
        if vision:
            config, auto = transformers.Gemma3Config, transformers.AutoModelForImageTextToText
            made = auto.from_config(config(**content), **how)
        else:
            made = transformers.AutoModelForCausalLM.from_config(transformers.Gemma3TextConfig(**content), **how)
    made.tie_weights()
    left = dict(made.named_parameters())  # a tied head is not among them
    with torch.no_grad():
        for name, weight in _tensors(loaded):
            parameter = left.pop(name)
            parameter.copy_(torch.from_numpy(_floats(weight)).reshape(parameter.shape))
    if left:
        raise AssertionError(f"not in the weights: {', '.join(left)}")
    return made.eval()


def _tensors(loaded: Loaded):
    """Name every weight as transformers' model does."""
    yield from named_weights(loaded.params, HUGGING_FACE_PREFIXES[2 if loaded.vision else 0])
    if loaded.vision:
        yield from named_vision_weights(loaded.vision, TOWER, PROJECTOR)


def _floats(weight) -> np.ndarray:
    """Return a weight's values as floats, in memory that may be written to."""
    return np.require(widen_jit(weight), requirements="W")


def text_model(model: Any) -> Any:
    """Return the decoder of a Gemma 3 model, with or without a vision tower beside it.

    Raises:
        BadInput: no Gemma3ForCausalLM and no Gemma3ForConditionalGeneration, nor anything built like them.
    """
    inner = getattr(model, "model", None)
    text = getattr(inner, "language_model", inner)
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in ("gemma3", "gemma3_text") or not hasattr(text, "layers"):
        want = "a loaded Gemma3ForCausalLM or Gemma3ForConditionalGeneration"
        raise wanted("model", "capture", want, type(model).__name__)
    return text


def vision_tower(model: Any) -> Any:
    """Return the vision tower, without the inner level that older versions have; None where there is none."""
    tower = getattr(model.model, "vision_tower", None)
    return getattr(tower, "vision_model", tower)


def text_config(model: Any) -> TextConfig:
    """Return a model's configuration under our names, whatever its owner made of it.

    Args:
        model: transformers'.

    Raises:
        BadInput: layers that are not one global after a fixed number of local ones, or local ones without a window.

    Source: transformers 5.23 `Gemma3TextConfig`.
    Differs: `config_from_hugging_face` refuses what is no Gemma 3; here a dump is to be had of it.
    """
    c = model.config.get_text_config()
    full, local = c.rope_parameters["full_attention"], c.rope_parameters["sliding_attention"]
    is_global = [kind == "full_attention" for kind in c.layer_types]
    every = is_global.index(True) + 1 if any(is_global) else len(is_global) + 1
    if is_global != [(i + 1) % every == 0 for i in range(c.num_hidden_layers)]:
        raise wanted("layer_types", "capture", "a global layer after a fixed number of local ones", list(c.layer_types))
    if c.sliding_window is None and not all(is_global):
        raise wanted("sliding_window", "capture", "a number", None)
    return TextConfig(
        name=size_name(c.num_hidden_layers, c.hidden_size),
        width=c.hidden_size,
        layers=c.num_hidden_layers,
        query_heads=c.num_attention_heads,
        kv_heads=c.num_key_value_heads,
        head_dim=c.head_dim,
        ffn_width=c.intermediate_size,
        query_scale=c.query_pre_attn_scalar**-0.5,
        window=c.sliding_window or c.max_position_embeddings,
        max_positions=c.max_position_embeddings,
        rope_factor=float(full.get("factor") or 1.0),
        vocabulary=c.vocab_size,
        rope_base_local=local["rope_theta"],
        rope_base_global=full["rope_theta"],
        global_every=every,
        rms_eps=c.rms_norm_eps,
    )


def vision_config(model: Any) -> VisionConfig | None:
    """Return the configuration of a model's vision tower under our names, None where it has none."""
    v = getattr(model.config, "vision_config", None)
    if v is None or vision_tower(model) is None:
        return None
    return tower_config(v, model.config.mm_tokens_per_image)
