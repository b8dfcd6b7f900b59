"""Captures of llama.cpp: the files, the prompt and the truth of its tests."""

from pathlib import Path

import numpy as np
from support.captures import truth_with
from support.checkpoints import SMALL, add_pair, gguf_metadata, tensors_of, write_gguf

import ref
from ref.ops.linear import widen
from ref.weights.names import gguf_name, is_norm
from ref.weights.synthetic import synthetic_params

IDS = [2, 7, 96, 0, 45, 45, 31, 8, 60]  # longer than SMALL's window of 5
UNSEEN = {"cache.positions"}  # by any node
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "Q8_0": "q8_0"}


def save(path: Path, kind: str, change=None) -> Path:
    """Write SMALL with matrices of a type, and no tokenizer: llama.cpp wants to be told that there is none."""
    from gguf import GGUFWriter

    tensors = {}
    for field, layer, weight in tensors_of(synthetic_params(SMALL, 5, bfloat16=False)):
        one = np.float32(is_norm(field))
        tensors[gguf_name(field, layer)] = np.asarray(widen(weight), np.float32) + one
    if change:
        change(tensors)
    writer = GGUFWriter(path, "gemma3")
    for key, value in gguf_metadata(SMALL).items():
        add_pair(writer, f"gemma3.{key}", value)
    add_pair(writer, "gemma3.vocab_size", SMALL.vocabulary)
    add_pair(writer, "tokenizer.ggml.model", "none")
    write_gguf(writer, tensors, kind, [name for name, array in tensors.items() if array.ndim == 1])
    return path


def truth_of(path: Path, folder: Path) -> list[dict[str, np.ndarray]]:
    """Run our definitions in float64 over the same passes."""
    return truth_with(ref.load(str(path)).params, folder)
