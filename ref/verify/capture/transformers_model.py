"""Build transformers' model of any weights that the reference loads."""

from typing import Any

import numpy as np

from ref.errors import wanted
from ref.ops.blocks import Blocks, decode_jit
from ref.ops.linear import widen
from ref.weights.export import config_to_hugging_face
from ref.weights.names import hugging_face_name, vision_name
from ref.weights.vision_config import vision_to_hugging_face

DTYPES = ("float32", "bfloat16", "float16", "float64")
INSTALL = "pip install torch==2.13.0 transformers==5.23.0"


def build_model(weights: str, dtype: str = "float32", attention: str = "eager") -> Any:
    """Build and fill transformers' model.

    Args:
        weights: as `--weights`; a folder of safetensors is read by transformers itself.
        dtype: float32, bfloat16, float16 or float64; weights are rounded to it as `from_pretrained` does.
        attention: `eager` or `sdpa`.

    Returns:
        Gemma3ForCausalLM, or Gemma3ForConditionalGeneration of weights that see; in evaluation mode.

    Raises:
        BadInput: transformers or torch are missing; another dtype or attention.

    Source: transformers 5.23.
    Differs: `.to(bfloat16)` on a float32 model would round the inverse frequencies too; here they stay float32.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise wanted("transformers", "capture", f"torch and transformers ({INSTALL})", error) from None
    if dtype not in DTYPES:
        raise wanted("--dtype", "capture", " ".join(DTYPES), dtype)
    if attention not in ("eager", "sdpa"):
        raise wanted("--attention", "capture", "eager or sdpa", attention)
    from ref.weights.resolve import load

    loaded = load(weights)
    kind: Any = transformers.Gemma3ForConditionalGeneration if loaded.vision else transformers.Gemma3ForCausalLM
    config: Any = _config(transformers, loaded)
    model = kind._from_config(config, dtype=getattr(torch, dtype), attn_implementation=attention)
    state = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in _state(loaded)}
    problems = model.load_state_dict(state, strict=False)
    if problems.unexpected_keys or set(problems.missing_keys) - {"lm_head.weight"}:
        raise wanted("weights", "transformers", "a place for every tensor", problems)
    model.tie_weights()
    return model.eval()


def _config(transformers, loaded):
    text = config_to_hugging_face(loaded.params.config)
    if loaded.vision is None:
        return transformers.Gemma3TextConfig(**text)
    see = vision_to_hugging_face(loaded.vision.config, loaded.params.config)
    return transformers.Gemma3Config(text_config=text, **{k: v for k, v in see.items() if k != "architectures"})


def _values(weight) -> np.ndarray:
    return decode_jit(weight) if isinstance(weight, Blocks) else widen(weight)


def _state(loaded):
    """Yield every parameter under transformers' name."""
    sees = loaded.vision is not None
    prefix = "model.language_model." if sees else "model."
    for field in ("embedding", "final_norm"):
        yield hugging_face_name(field, None, prefix), _values(getattr(loaded.params, field))
    for i, layer in enumerate(loaded.params.layers):
        for field, weight in layer._asdict().items():
            yield hugging_face_name(field, i, prefix), _values(weight)
    if sees:
        yield from _vision_state(loaded.vision)


def _vision_state(vision):
    tower, projector = "model.vision_tower.", "model.multi_modal_projector."
    for field, weight in vision._asdict().items():
        if field not in ("config", "layers"):
            yield vision_name(field, None, tower, projector), _shaped(field, _values(weight), vision.config)
    for i, layer in enumerate(vision.layers):
        for field, weight in layer._asdict().items():
            yield vision_name(field, i, tower, projector), _values(weight)


def _shaped(field: str, value: np.ndarray, v) -> np.ndarray:
    return value.reshape(-1, v.channels, v.patch, v.patch) if field == "patch" else value
