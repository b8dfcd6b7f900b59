"""Small checkpoints as other programs write them: Hugging Face folders of TINY, GGUF and mmproj files of SMALL."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from support.tiny import TINY

from ref.config import VISION, TextConfig, VisionConfig
from ref.model.params import TextParams, VisionParams
from ref.ops.linear import widen
from ref.weights.export import save_hugging_face
from ref.weights.names import gguf_name, is_norm, vision_name
from ref.weights.names import text_tensors as tensors_of
from ref.weights.names import vision_tensors as vision_tensors_of
from ref.weights.synthetic import synthetic_params, synthetic_vision

# GGUF's query scale is head_dim^-1/2 and its blocks hold 32 values, so that TINY cannot be a GGUF file
SMALL = TextConfig("custom", 64, 7, 4, 2, 24, 160, 24**-0.5, 5, 1024, 8.0, vocabulary=97)
# Rows of whole blocks and lengths that all differ, for the same reason; 64 patches to 4 soft tokens
SMALL_EYE = VisionConfig(96, 2, 3, 160, 5, 40, 3, 4)


def assert_same_params(got: TextParams, wanted: TextParams):
    """Assert that configurations and every bit of every parameter are the same."""
    assert got.config == wanted.config
    for (field, layer, a), (_, _, b) in zip(tensors_of(got), tensors_of(wanted), strict=True):
        assert a.dtype == b.dtype, (field, layer)
        np.testing.assert_array_equal(a, b, err_msg=f"{field} {layer}")


def assert_same_vision(got: VisionParams | None, wanted: VisionParams):
    """Assert that configurations and every bit of every parameter are the same."""
    assert got is not None
    assert got.config == wanted.config
    for (field, layer, a), (_, _, b) in zip(vision_tensors_of(got), vision_tensors_of(wanted), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), (field, layer)
        np.testing.assert_array_equal(a, b, err_msg=f"{field} {layer}")


def save_seeing(folder: Path, bfloat16=True, shards=1, style="4.51", size="tiny") -> tuple[TextParams, VisionParams]:
    """Write TINY with a vision tower as a multimodal folder and return the parameters of both."""
    params = synthetic_params(TINY, 0, bfloat16=bfloat16)
    vision = synthetic_vision(VISION[size], TINY.width, 0, bfloat16)
    save_hugging_face(params, folder, shards, vision, style)
    return params, vision


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
    from gguf import GGUFWriter

    tensors = {}
    for field, layer, weight in tensors_of(params):
        one = np.float32(1) if is_norm(field) else np.float32(0)
        tensors[gguf_name(field, layer)] = np.asarray(widen(weight), np.float32) + one
    if change:
        change(tensors)
    writer = GGUFWriter(path, "gemma3")
    for key, value in (gguf_metadata(params.config) | (metadata or {})).items():
        add_pair(writer, f"gemma3.{key}", value)
    write_gguf(writer, tensors, kind, [name for name, array in tensors.items() if array.ndim == 1])


def add_pair(writer, key, value):
    """Add a metadata pair unless its value is None."""
    add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, bool: writer.add_bool}
    if value is not None:
        add.get(type(value), writer.add_array)(key, value)


def write_gguf(writer, tensors, kind, as_float32):
    """Write a GGUF file, all but some tensors as `kind`."""
    from gguf import GGMLQuantizationType, quantize

    for name, array in tensors.items():
        wide = name in as_float32 or kind == "F32"
        data = array if wide else quantize(array, GGMLQuantizationType[kind])
        writer.add_tensor(name, data, raw_dtype=None if wide else GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_mmproj(path: Path, vision: VisionParams, kind="F32", change=None, metadata=None):
    """Write an mmproj file with the `gguf` package, which names the tensors by their Hugging Face names.

    Args:
        path: of the file.
        vision: tower and projector.
        kind: type of the matrices; patch, positions, norms and biases are float32, as llama.cpp's converter has it.
        change: edits the dictionary name -> array before it is written; the projector's norm has had its 1 added.
        metadata: whole keys to set instead of the usual; None leaves one out.
    """
    from gguf import MODEL_ARCH, GGUFWriter, TensorNameMap

    of, v = TensorNameMap(MODEL_ARCH.MMPROJ, vision.config.layers), vision.config
    tensors = {}
    for field, layer, weight in vision_tensors_of(vision):
        name = of.get_name(vision_name(field, layer).replace("_weight", ".weight"), (".weight", ".bias"))
        array = np.asarray(widen(weight), np.float32) + np.float32(field == "soft_norm")
        tensors[name] = array.reshape(v.width, v.channels, v.patch, v.patch) if field == "patch" else array
    if change:
        change(tensors)
    writer = GGUFWriter(path, "clip")
    writer.add_clip_projector_type("gemma3")
    for key, value in (mmproj_metadata(v, vision.text_width) | (metadata or {})).items():
        add_pair(writer, key, value)
    embedded = [name for name in tensors if "embd" in name]
    write_gguf(writer, tensors, kind, embedded + [name for name, array in tensors.items() if array.ndim == 1])


def mmproj_metadata(v: VisionConfig, text_width: int) -> dict:
    """Return what llama.cpp's converter writes of a tower's configuration, beside architecture and projector type."""
    numbers = {
        "image_size": v.image,
        "patch_size": v.patch,
        "embedding_length": v.width,
        "feed_forward_length": v.ffn_width,
        "block_count": v.layers,
        "attention.head_count": v.heads,
        "attention.layer_norm_epsilon": float(np.float32(v.layer_norm_eps)),
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "projection_dim": text_width,
        **({"projector.scale_factor": v.pool} if v.pool != 4 else {}),
    }
    flags = {"clip.has_vision_encoder": True, "clip.use_gelu": True}
    return flags | {f"clip.vision.{key}": value for key, value in numbers.items()}


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
