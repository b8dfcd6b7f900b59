"""Write a checkpoint in the official Hugging Face layout: config.json and safetensors, one file or shards."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save

from ref.config import TextConfig
from ref.errors import wanted
from ref.model.params import TextParams, VisionParams
from ref.ops.linear import ByRows, Weight, widen
from ref.weights.names import (
    HUGGING_FACE_PREFIXES,
    PROJECTOR_PREFIXES,
    TOWER_PREFIXES,
    hugging_face_name,
    text_tensors,
    vision_name,
    vision_tensors,
)
from ref.weights.shards import INDEX, SINGLE
from ref.weights.vision_config import vision_to_hugging_face


def config_to_hugging_face(c: TextConfig, untied: bool = False) -> dict[str, Any]:
    """Return the configuration as a full 4.x-style text `config.json`, which transformers 5 reads too.

    Args:
        c: the configuration.
        untied: whether the head is a tensor of its own.

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
        "tie_word_embeddings": not untied,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


# prefixes of text, tower and projector in files of transformers before and after 4.52; the released files are of 4.51
STYLES = {
    "4.51": (HUGGING_FACE_PREFIXES[1], TOWER_PREFIXES[0], PROJECTOR_PREFIXES[0]),
    "4.52": (HUGGING_FACE_PREFIXES[2], TOWER_PREFIXES[1], PROJECTOR_PREFIXES[1]),
}


def save_hugging_face(
    params: TextParams, folder: Path, shards: int = 1, vision: VisionParams | None = None, style: str = "4.51"
) -> None:
    """Write the parameters as an official checkpoint into an empty or new folder.

    Args:
        params: the parameters; blocks are widened to float32, bfloat16 stays bfloat16.
        folder: where to write.
        shards: how many files; more than one come with an index.
        vision: tower and projector; with them the checkpoint is a multimodal one.
        style: `4.51` (as released) or `4.52`: the version of transformers whose names a multimodal checkpoint has.

    Raises:
        BadInput: the folder holds something already, or there is no such style.
    """
    if style not in STYLES:
        raise wanted("style", "export", " or ".join(STYLES), style)
    if folder.exists() and any(folder.iterdir()):
        raise wanted("folder", folder, "an empty or new one", "files in it")
    folder.mkdir(parents=True, exist_ok=True)
    prefix = STYLES[style][0] if vision else HUGGING_FACE_PREFIXES[0]
    tensors = {name: as_file(weight) for name, weight in named_weights(params, prefix)}
    if vision:
        tensors |= named_vision_tensors(vision, *STYLES[style][1:])
    names = list(tensors)
    write_shards(({name: tensors[name] for name in names[shard::shards]} for shard in range(shards)), folder)
    (folder / "config.json").write_text(json.dumps(checkpoint_config(params, vision), indent=1) + "\n")


def checkpoint_config(params: TextParams, vision: VisionParams | None) -> dict[str, Any]:
    """Return the `config.json` of a checkpoint, multimodal where there is a tower; arguments as `save_hugging_face`."""
    config = config_to_hugging_face(params.config, params.head is not None)
    if vision is None:
        return config
    tied = {"tie_word_embeddings": config["tie_word_embeddings"]}  # transformers asks the outer one
    return vision_to_hugging_face(vision.config, params.config) | tied | {"text_config": config}


def write_shards(parts: Iterable[Mapping[str, np.ndarray]], folder: Path) -> None:
    """Write each part as a safetensors file; several come with an index.

    Args:
        parts: tensors by name, one part in memory at a time.
        folder: where.

    Raises:
        OSError: as writing does.

    Source: transformers `save_pretrained` for the names.
    Differs: safetensors' own `save_file` makes files that nobody else may read.
    """
    inside, total = [], 0
    for number, part in enumerate(parts):
        arrays = {name: np.ascontiguousarray(array) for name, array in part.items()}
        (folder / f"{number}.part").write_bytes(save(arrays))
        inside.append(list(arrays))
        total += sum(array.nbytes for array in arrays.values())
    files = [SINGLE]
    if len(inside) > 1:
        files = [f"model-{number + 1:05}-of-{len(inside):05}.safetensors" for number in range(len(inside))]
        places = {name: file for names, file in zip(inside, files, strict=True) for name in names}
        listing = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(listing, indent=1))
    for number, file in enumerate(files):
        (folder / f"{number}.part").rename(folder / file)


def named_weights(params: TextParams, prefix: str) -> Iterator[tuple[str, Weight]]:
    """Yield (name, Weight) of every tensor of the text model, as transformers names them.

    Args:
        params: of the text model.
        prefix: one of HUGGING_FACE_PREFIXES.
    """
    for field, layer, weight in text_tensors(params):
        yield hugging_face_name(field, layer, prefix), weight


def named_vision_weights(vision: VisionParams, tower: str, projector: str) -> Iterator[tuple[str, Weight]]:
    """Yield (name, Weight) of every tensor of tower and projector; the patch embedding as the matrix it is here.

    Args:
        vision: tower and projector.
        tower: one of TOWER_PREFIXES.
        projector: one of PROJECTOR_PREFIXES.
    """
    for field, layer, weight in vision_tensors(vision):
        yield vision_name(field, layer, tower, projector), weight


def named_vision_tensors(vision: VisionParams, tower: str, projector: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, array) of every tensor of tower and projector as a file holds it; arguments as above."""
    v, patch = vision.config, vision_name("patch", None, tower, projector)
    for name, weight in named_vision_weights(vision, tower, projector):
        array = as_file(weight)
        yield name, array.reshape(v.width, v.channels, v.patch, v.patch) if name == patch else array


def as_file(weight: Weight) -> np.ndarray:
    """Return a Weight as safetensors holds it: bits as bfloat16, blocks widened, rows made."""
    if isinstance(weight, ByRows):
        weight = weight.take_rows(slice(None))
    if isinstance(weight, np.ndarray) and weight.dtype == np.uint16:
        return weight.view(ml_dtypes.bfloat16)
    return widen(weight)
