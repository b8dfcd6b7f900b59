"""Write a checkpoint in the official Hugging Face layout: config.json and safetensors, one file or shards."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from ref.config import TextConfig
from ref.errors import wanted
from ref.model.params import TextParams
from ref.ops.linear import widen
from ref.weights.names import EMBEDDING, FINAL_NORM, LAYER_NAMES, hugging_face_name


def config_to_hugging_face(c: TextConfig) -> dict[str, Any]:
    """Return the configuration as a full 4.x-style text `config.json`, which transformers 5 reads too.

    Args:
        c: the configuration.

    Raises:
        BadInput: a query scale that is not the inverse root of an integer.

    Source: transformers 5.23 `Gemma3TextConfig`.
    Differs: 5.x would nest the three RoPE keys in `rope_parameters`.
    """
    scalar = round(c.query_scale**-2)
    if abs(c.query_scale - scalar**-0.5) > 1e-12:
        raise wanted("query_scale", "export", "the inverse root of an integer, which config.json holds", c.query_scale)
    kinds = ["full_attention" if c.is_global(i) else "sliding_attention" for i in range(c.layers)]
    scaling = {"rope_scaling": {"rope_type": "linear", "factor": c.rope_factor}} if c.rope_factor != 1 else {}
    return scaling | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": c.vocabulary,
        "hidden_size": c.width,
        "intermediate_size": c.ffn_width,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.query_heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": c.max_positions,
        "rms_norm_eps": c.rms_eps,
        "query_pre_attn_scalar": scalar,
        "sliding_window": c.window,
        "layer_types": kinds,
        "rope_theta": c.rope_base_global,
        "rope_local_base_freq": c.rope_base_local,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


def save_hugging_face(params: TextParams, folder: Path, shards: int = 1) -> None:
    """Write the parameters as an official checkpoint into an empty or new folder.

    Args:
        params: the parameters; blocks are widened to float32, bfloat16 stays bfloat16.
        folder: where to write.
        shards: how many files; more than one come with an index.

    Raises:
        BadInput: the folder holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise wanted("folder", folder, "an empty or new one", "files in it")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(_tensors(params))
    names = list(tensors)
    index = {}
    for shard in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        save_file({name: np.ascontiguousarray(tensors[name]) for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    if shards > 1:
        listing = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": index}
        (folder / "model.safetensors.index.json").write_text(json.dumps(listing, indent=1))
    (folder / "config.json").write_text(json.dumps(config_to_hugging_face(params.config), indent=1) + "\n")


def _tensors(params: TextParams):
    yield hugging_face_name(EMBEDDING, None), _as_file(params.embedding)
    for i, layer in enumerate(params.layers):
        for field in LAYER_NAMES:
            yield hugging_face_name(field, i), _as_file(getattr(layer, field))
    yield hugging_face_name(FINAL_NORM, None), _as_file(params.final_norm)


def _as_file(weight):
    bits = isinstance(weight, np.ndarray) and weight.dtype == np.uint16
    return weight.view(ml_dtypes.bfloat16) if bits else widen(weight)
