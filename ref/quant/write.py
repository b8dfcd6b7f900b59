"""`quantize`: whole checkpoints into a format: a GGUF file for what llama.cpp knows, else a Hugging Face folder."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ref.errors import wanted
from ref.ops.blocks import FORMATS, Blocks
from ref.prompt.chat import stop_ids
from ref.quant.encode import ENCODERS
from ref.quant.gguf_file import write_gguf
from ref.quant.output import filled
from ref.quant.plan import Planned, check_finite, make, plan
from ref.weights.coded import CODED, METHOD, SUFFIX
from ref.weights.export import as_file, checkpoint_config, named_vision_tensors, write_shards
from ref.weights.names import HUGGING_FACE_PREFIXES, PROJECTOR_PREFIXES, TOWER_PREFIXES, hugging_face_name
from ref.weights.resolve import Loaded

SHARD = 2**30  # bytes a file


def quantize(loaded: Loaded, kind: str, folder: Path, keep_embedding: bool = False) -> Path:
    """Quantise every matrix of the text model and write a checkpoint that `--weights` reads.

    Args:
        loaded: the weights.
        kind: Q4_0 or Q8_0 (a GGUF file, which llama.cpp reads too), INT4 or SFP8 (a folder); in either case of letters.
        folder: where to write; new or empty.
        keep_embedding: leave the embedding, and a head of its own, as they are. Codes that the target cannot hold
            become float32 of the same values, 4 bytes each: in a folder all but those of `kind`, in a GGUF file INT4
            and SFP8.

    Returns:
        What to give to `--weights`: the GGUF file, or the folder.

    Rounding: see `ref.quant.encode`; norms, tower and projector keep their values.
    Raises: BadInput: unknown format, a folder that is not empty or cannot be written to, a width that is no multiple of
        the block, values not finite or beyond the format; then nothing is left behind.
    Source: own; the layouts' owners stand at `ref.weights.coded` and `ref.quant.gguf_file`.
    Differs: llama.cpp's official files keep the embedding as float16 (`keep_embedding` of float16 weights).
    """
    if kind.upper() not in ENCODERS:
        raise wanted("format", "quantize", f"one of {', '.join(ENCODERS).lower()}", kind)
    kind = kind.upper()
    planned = plan(loaded.params, kind, keep_embedding)
    with filled(folder) as new:
        if kind in CODED:
            _write_folder(loaded, planned, kind, new)
            return folder
        return folder / write_gguf(loaded, planned, kind, new)


def _write_folder(loaded: Loaded, planned: Sequence[Planned], kind: str, folder: Path) -> None:
    config = checkpoint_config(loaded.params, loaded.vision)
    for part in (config, config.get("text_config", config)):  # by the stop ids a reader knows what is tuned
        part["eos_token_id"] = list(stop_ids(loaded.instruction_tuned))
    bits = 8 * FORMATS[kind].size // FORMATS[kind].length
    config["quantization_config"] = {"quant_method": METHOD, "format": kind, "bits": bits, "value": "code / scale"}
    write_shards(_parts(_tensors(loaded, planned, kind)), folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    source = Path(loaded.name) / "tokenizer.model"
    if source.is_file():
        shutil.copyfile(source, folder / source.name)


def _tensors(loaded: Loaded, planned: Sequence[Planned], kind: str) -> Iterator[tuple[str, np.ndarray]]:
    prefix = HUGGING_FACE_PREFIXES[1 if loaded.vision else 0]
    for _, name, made in make(loaded.params, kind, planned, partial(hugging_face_name, prefix=prefix)):
        if isinstance(made, Blocks) and made.scale is not None:
            yield name, made.data
            yield name + SUFFIX, made.scale
        else:
            yield name, as_file(made)
    if loaded.vision:
        for name, array in named_vision_tensors(loaded.vision, TOWER_PREFIXES[0], PROJECTOR_PREFIXES[0]):
            check_finite(array, name)
            yield name, array


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
