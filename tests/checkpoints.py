"""Small checkpoints as other programs write them: Hugging Face folders of TINY, GGUF files of SMALL."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tiny import TINY

from ref.config import TextConfig
from ref.model.params import TextParams
from ref.ops.linear import widen
from ref.weights.export import save_hugging_face
from ref.weights.names import EMBEDDING, FINAL_NORM, LAYER_NAMES, gguf_name, is_norm
from ref.weights.synthetic import synthetic_params

# GGUF's query scale is head_dim^-1/2 and its blocks hold 32 values, so that TINY cannot be a GGUF file
SMALL = TextConfig("custom", 64, 7, 4, 2, 24, 160, 24**-0.5, 5, 1024, 8.0, vocabulary=97)


def tensors_of(params: TextParams):
    """Yield (field, layer or None, weight) of every parameter."""
    yield EMBEDDING, None, params.embedding
    for i, layer in enumerate(params.layers):
        for field in LAYER_NAMES:
            yield field, i, getattr(layer, field)
    yield FINAL_NORM, None, params.final_norm


def assert_same_params(got: TextParams, wanted: TextParams):
    """Assert that configurations and every bit of every parameter are the same."""
    assert got.config == wanted.config
    for (field, layer, a), (_, _, b) in zip(tensors_of(got), tensors_of(wanted), strict=True):
        assert a.dtype == b.dtype, (field, layer)
        np.testing.assert_array_equal(a, b, err_msg=f"{field} {layer}")


def save_tiny(folder: Path, bfloat16=True, shards=1, seed=0) -> TextParams:
    """Write TINY as an official folder and return its parameters."""
    params = synthetic_params(TINY, seed, bfloat16=bfloat16)
    save_hugging_face(params, folder, shards)
    return params


def change_tensors(folder: Path, change):
    """Rewrite `model.safetensors` through `change`, which edits the dictionary of tensors in place."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def change_config(folder: Path, **settings):
    """Set keys of `config.json`; None removes one."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def save_gguf(path: Path, params: TextParams, kind="F32", change=None, metadata=None):
    """Write a GGUF file with the `gguf` package.

    Args:
        path: of the file.
        params: of SMALL.
        kind: type of the matrices; norms are float32 with 1 added, as llama.cpp's converter writes them.
        change: edits the dictionary name -> array before it is written; norms have had their 1 added.
        metadata: keys (without `gemma3.`) to set instead of the usual; None leaves one out.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    tensors = {}
    for field, layer, weight in tensors_of(params):
        one = np.float32(1) if is_norm(field) else np.float32(0)
        tensors[gguf_name(field, layer)] = np.asarray(widen(weight), np.float32) + one
    if change:
        change(tensors)
    writer = GGUFWriter(path, "gemma3")
    for key, value in (gguf_metadata(params.config) | (metadata or {})).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        if value is not None:
            add[type(value)](f"gemma3.{key}", value)
    for name, array in tensors.items():
        wide = array.ndim == 1 or kind == "F32"
        data = array if wide else quantize(array, GGMLQuantizationType[kind])
        writer.add_tensor(name, data, raw_dtype=None if wide else GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_metadata(c: TextConfig) -> dict:
    """Return what llama.cpp's converter writes of a configuration, by key without `gemma3.`."""
    return {
        "context_length": c.max_positions,
        "embedding_length": c.width,
        "block_count": c.layers,
        "feed_forward_length": c.ffn_width,
        "attention.head_count": c.query_heads,
        "attention.head_count_kv": c.kv_heads,
        "attention.key_length": c.head_dim,
        "attention.value_length": c.head_dim,
        "attention.layer_norm_rms_epsilon": float(np.float32(c.rms_eps)),
        "attention.sliding_window": c.window,
        "rope.freq_base": c.rope_base_global,
        **({"rope.scaling.type": "linear", "rope.scaling.factor": c.rope_factor} if c.rope_factor != 1 else {}),
    }
