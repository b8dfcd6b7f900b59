"""`quantize`: whole checkpoints into a format: a GGUF file for what llama.cpp knows, else a Hugging Face folder."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ref.errors import wanted
from ref.ops.blocks import FORMATS, Blocks
from ref.ops.linear import ByRows, take_rows, widen_jit
from ref.quant.encode import check_width, encode
from ref.quant.gguf_file import write_gguf
from ref.weights.coded import CODED, METHOD, SUFFIX
from ref.weights.export import as_file, checkpoint_config, named_vision_tensors, named_weights, write_shards
from ref.weights.names import HUGGING_FACE_PREFIXES, PROJECTOR_PREFIXES, TOWER_PREFIXES
from ref.weights.resolve import Loaded

ROWS = 4_096  # of a matrix that are widened at a time
SHARD = 2**30  # bytes a file
Encoder = Callable[[str, Any], Any]  # name, Weight -> Weight as it is written


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

    def is_coded(weight) -> bool:
        matrix = isinstance(weight, (Blocks, ByRows)) or weight.ndim == 2
        return matrix and not (keep_embedding and weight is loaded.params.embedding)

    for name, weight in named_weights(loaded.params, ""):
        if is_coded(weight):
            check_width(weight.shape[1], kind, name)
    new, total = folder.with_name(f".{folder.name}.{os.getpid()}.part"), 13 * loaded.params.config.layers + 2
    try:
        new.mkdir(parents=True)
        with tqdm(total=total, desc=f"weights to {kind}", disable=None, delay=1, leave=False) as bar:

            def encoder(name: str, weight):
                bar.update()
                return encode_rows(weight, kind, name) if is_coded(weight) else weight

            if kind in CODED:
                _write_folder(loaded, encoder, kind, new)
            else:
                written = write_gguf(loaded, lambda weight: kind if is_coded(weight) else None, encoder, kind, new)
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    except OSError as error:
        raise wanted("folder", folder, "a place to write to", error.strerror) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder if kind in CODED else folder / written


def encode_rows(weight, kind: str, where: object) -> Blocks:
    """Quantise a matrix of any kind, some rows at a time.

    Args:
        weight: a Weight [O, I].
        kind: see `ref.quant.encode.encode`.
        where: its name, for refusals.

    Raises:
        BadInput: see `ref.quant.encode.encode`.
    """
    parts = []
    for start in range(0, weight.shape[0], ROWS):
        rows = np.ascontiguousarray(widen_jit(take_rows(weight, slice(start, start + ROWS))), np.float32)
        parts.append(encode(rows, kind, where))
    scales = [part.scale for part in parts if part.scale is not None]
    data = np.concatenate([part.data for part in parts])
    return Blocks(data, kind, np.concatenate(scales) if scales else None)


def _write_folder(loaded: Loaded, encoder: Encoder, kind: str, folder: Path) -> None:
    config = checkpoint_config(loaded.params, loaded.vision)
    bits = 8 * FORMATS[kind].size // FORMATS[kind].length
    config["quantization_config"] = {"quant_method": METHOD, "format": kind, "bits": bits, "value": "code / scale"}
    write_shards(_parts(_tensors(loaded, encoder)), folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    source = Path(loaded.name) / "tokenizer.model"
    if source.is_file():
        shutil.copyfile(source, folder / source.name)


def _tensors(loaded: Loaded, encoder: Encoder) -> Iterator[tuple[str, np.ndarray]]:
    for name, weight in named_weights(loaded.params, HUGGING_FACE_PREFIXES[1 if loaded.vision else 0]):
        made = encoder(name, weight)
        if isinstance(made, Blocks) and made.scale is not None:
            yield name, made.data
            yield name + SUFFIX, made.scale
        else:
            yield name, as_file(made)
    if loaded.vision:
        yield from named_vision_tensors(loaded.vision, TOWER_PREFIXES[0], PROJECTOR_PREFIXES[0])


def _parts(tensors: Iterable[tuple[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Cut tensors into parts of about SHARD bytes."""
    part: dict[str, np.ndarray] = {}
    for name, array in tensors:
        part[name] = array
        if sum(one.nbytes for one in part.values()) >= SHARD:
            yield part
            part = {}
    if part:
        yield part
