"""`quantize`: whole checkpoints into a format: a GGUF file for what llama.cpp knows, else a Hugging Face folder."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from ref.errors import wanted
from ref.ops.blocks import FORMATS, Blocks
from ref.ops.linear import ByRows, take_rows, widen_jit
from ref.quant.encode import check_finite, check_width, encode
from ref.quant.gguf_file import write_gguf
from ref.weights.coded import CODED, METHOD, SUFFIX
from ref.weights.export import as_file, config_to_hugging_face, named_vision_tensors, named_weights
from ref.weights.names import EMBEDDING, HUGGING_FACE_PREFIXES, PROJECTOR_PREFIXES, TOWER_PREFIXES
from ref.weights.resolve import Loaded
from ref.weights.vision_config import vision_to_hugging_face

ROWS = 4_096  # of a matrix that are widened at a time
SHARD = 2 * 2**30  # bytes a file


def quantize(loaded: Loaded, kind: str, folder: Path, keep_embedding: bool = False) -> Path:
    """Quantise every matrix of the text model and write a checkpoint that `--weights` reads.

    Args:
        loaded: the weights.
        kind: Q4_0 or Q8_0 (a GGUF file, which llama.cpp reads too), INT4 or SFP8 (a folder).
        folder: where to write; new or empty.
        keep_embedding: leave the embedding, which is the head too, as it is.

    Returns:
        What to give to `--weights`: the GGUF file, or the folder.

    Rounding: see `ref.quant.encode`; norms, tower and projector stay as they are.
    Raises: BadInput: unknown format, folder not empty, a width that is no multiple of the block, values not finite;
        then nothing is left behind.
    Source: own; the layouts' owners stand at `ref.weights.coded` and `ref.quant.gguf_file`.
    Differs: llama.cpp's official files keep the embedding as float16 (`keep_embedding` of float16 weights).
    """
    if kind not in (*CODED, "Q4_0", "Q8_0"):
        raise wanted("format", "quantize", "int4, q4_0, q8_0 or sfp8", kind)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise wanted("folder", folder, "an empty or new one", "files in it" if folder.is_dir() else "a file")
    for name, weight in named_weights(loaded.params, ""):
        if _is_coded(weight, "embed_tokens" in name, keep_embedding):
            check_width(weight.shape[1], kind, name)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        new.mkdir(parents=True)
        name = (_write_folder if kind in CODED else _write_gguf)(loaded, kind, new, keep_embedding)
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    except OSError as error:
        raise wanted("folder", folder, "a place to write to", error.strerror) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder / name


def _is_coded(weight, is_embedding: bool, keep_embedding: bool) -> bool:
    matrix = isinstance(weight, (Blocks, ByRows)) or weight.ndim == 2
    return matrix and not (is_embedding and keep_embedding)


def _write_gguf(loaded: Loaded, kind: str, folder: Path, keep_embedding: bool) -> str:
    bar = tqdm(
        total=13 * loaded.params.config.layers + 2, desc=f"weights to {kind}", disable=None, delay=1, leave=False
    )

    def kind_of(field: str, weight) -> str | None:
        return kind if _is_coded(weight, field == EMBEDDING, keep_embedding) else None

    def held(field: str, weight):
        bar.update()
        if kind_of(field, weight):
            return encode_rows(weight, kind, field)
        return weight.take_rows(slice(None)) if isinstance(weight, ByRows) else weight

    with bar:
        return write_gguf(loaded, kind_of, held, kind, folder)


def _coded(loaded: Loaded, kind: str, keep_embedding: bool) -> Iterator[tuple[str, Any]]:
    """Yield (official name, Weight) of the text model, matrices quantised one after the other."""
    named = named_weights(loaded.params, HUGGING_FACE_PREFIXES[1 if loaded.vision else 0])
    total = 13 * loaded.params.config.layers + 2
    for name, weight in tqdm(named, desc=f"weights to {kind}", total=total, disable=None, delay=1, leave=False):
        coded = _is_coded(weight, "embed_tokens" in name, keep_embedding)
        yield name, encode_rows(weight, kind, name) if coded else weight


def encode_rows(weight, kind: str, where: object) -> Blocks:
    """Quantise a matrix of any kind, some rows at a time.

    Args:
        weight: a Weight [O, I].
        kind: see `ref.quant.encode.encode`.
        where: its name, for refusals.

    Raises:
        BadInput: see `ref.quant.encode.encode`.
    """
    check_width(weight.shape[1], kind, where)
    parts = []
    for start in range(0, weight.shape[0], ROWS):
        rows = np.ascontiguousarray(widen_jit(take_rows(weight, slice(start, start + ROWS))), np.float32)
        check_finite(rows, kind, where)
        parts.append(encode(rows, kind))
    scales = [part.scale for part in parts if part.scale is not None]
    data = np.concatenate([part.data for part in parts])
    return Blocks(data, kind, np.concatenate(scales) if scales else None)


def _write_folder(loaded: Loaded, kind: str, folder: Path, keep_embedding: bool) -> str:
    config = config_to_hugging_face(loaded.params.config)
    if loaded.vision:
        config = vision_to_hugging_face(loaded.vision.config, loaded.params.config) | {"text_config": config}
    bits = 8 * FORMATS[kind].size // FORMATS[kind].length
    config["quantization_config"] = {"quant_method": METHOD, "format": kind, "bits": bits, "value": "code / scale"}
    tensors = _as_tensors(_coded(loaded, kind, keep_embedding))
    if loaded.vision:
        tensors = (*tensors, *named_vision_tensors(loaded.vision, TOWER_PREFIXES[0], PROJECTOR_PREFIXES[0]))
    _write_shards(tensors, folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    source = Path(loaded.name) / "tokenizer.model"
    if source.is_file():
        shutil.copyfile(source, folder / source.name)
    return ""


def _as_tensors(weights) -> Iterator[tuple[str, np.ndarray]]:
    for name, weight in weights:
        if isinstance(weight, Blocks) and weight.scale is not None:
            yield name, weight.data
            yield name + SUFFIX, weight.scale
        else:
            yield name, as_file(weight)


def _write_shards(tensors, folder: Path) -> None:
    """Write files of about SHARD bytes, and the index of several."""
    files: list[list[str]] = []
    part: dict[str, np.ndarray] = {}
    for name, array in tensors:
        part[name] = np.ascontiguousarray(array)
        if sum(one.nbytes for one in part.values()) >= SHARD:
            files.append(_save(part, folder, len(files)))
            part = {}
    if part:
        files.append(_save(part, folder, len(files)))
    names = [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))]
    names = names if len(files) > 1 else ["model.safetensors"]
    for i, name in enumerate(names):
        (folder / f"{i}.safetensors").rename(folder / name)
    if len(files) > 1:
        places = {name: names[i] for i, inside in enumerate(files) for name in inside}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}, indent=1) + "\n")


def _save(part: dict[str, np.ndarray], folder: Path, number: int) -> list[str]:
    save_file(part, folder / f"{number}.safetensors")
    return list(part)
