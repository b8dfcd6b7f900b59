"""One resolver for every command's `--weights`: 270m, a GGUF file, a safetensors folder, synthetic, tiny."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ref.config import END_OF_TURN, VISION, find_size
from ref.errors import BadInput, wanted
from ref.model.params import TextParams, VisionParams, Weight
from ref.ops.linear import take_rows, widen
from ref.prompt.tokenizer import Tokenizer
from ref.untrusted import quoted
from ref.weights.coded import with_codes
from ref.weights.config_files import config_from_gguf, config_from_hugging_face, read_json
from ref.weights.gguf import GgufFile, open_gguf
from ref.weights.load import Report, build_params, check_tensors, hold_as, wanted_shapes
from ref.weights.names import (
    EMBEDDING,
    HEAD,
    HEADS,
    HUGGING_FACE_PREFIXES,
    VISION_PREFIXES,
    gguf_name,
    hugging_face_name,
    vision_name,
)
from ref.weights.package import INSTALL, cache_folder, has_package, package_file
from ref.weights.shards import open_sharded
from ref.weights.synthetic import synthetic_params, synthetic_vision
from ref.weights.vision import build_vision, load_mmproj, vision_names, wanted_vision_shapes
from ref.weights.vision_config import vision_from_hugging_face

ROWS = 4_096  # of embedding and head that are compared at a time


class Loaded(NamedTuple):
    """Weights ready to run."""

    name: str  # as the user named them
    held_as: str
    params: TextParams
    report: Report
    tokenizer: Callable[[], Tokenizer]  # made when first asked for, then kept; refuses where the weights have none
    instruction_tuned: bool
    vision: VisionParams | None = None  # where the weights can see
    files: tuple[Any, ...] = ()  # what they lie in, each with `has(name)` and `raw(name)`; none of made-up ones
    adapter: str | None = None  # the name of what `ref.weights.adapter` put on them


def load(weights: str = "270m", held_as: str = "file", mmproj: str | None = None) -> Loaded:
    """Find, check and open weights. Nothing large is read yet unless `held_as` converts.

    Args:
        weights: `270m` (the extra [weights]), a `.gguf` file, a Hugging Face folder, `synthetic:SIZE[:SEED]`, `tiny`
            or `tiny-long` (whose images have more soft tokens than the window).
        held_as: `file`, `memory`, `float32` or `bfloat16`; see `hold_as`.
        mmproj: the file with the vision tower of a `.gguf` file; other weights hold their own.

    Raises:
        BadInput: unknown, missing, broken or inconsistent weights; the extra is not installed; an mmproj file that
            does not go with them.
    """
    kind, _, rest = weights.partition(":")
    if weights == "270m":
        loaded = _load_gguf(package_file(), weights)
    elif weights in TOYS or kind == "synthetic":
        loaded = _make(weights, rest or weights)
    elif _is(Path.is_dir, weights):
        loaded = _load_folder(Path(weights))
    elif _is(Path.is_file, weights):
        loaded = _load_gguf(Path(weights), weights)
    else:
        want = "270m, tiny, synthetic:SIZE[:SEED], a .gguf file or a folder of safetensors"
        raise wanted("--weights", "weights", want, weights)
    if mmproj is not None:
        loaded = _add_mmproj(loaded, mmproj)
    vision = hold_as(loaded.vision, held_as) if loaded.vision else None
    return loaded._replace(params=hold_as(loaded.params, held_as), vision=vision, held_as=held_as)


def _add_mmproj(loaded: Loaded, mmproj: str) -> Loaded:
    if loaded.name != "270m" and not _is(Path.is_file, loaded.name):
        raise wanted("--mmproj", "weights", "a .gguf file as --weights; others hold their own vision", loaded.name)
    if not _is(Path.is_file, mmproj):
        raise wanted("--mmproj", "weights", "a .gguf file with a vision tower", mmproj)
    file = open_gguf(mmproj)
    vision, seen = load_mmproj(Path(mmproj), loaded.params.config.width, file)
    return loaded._replace(vision=vision, report=_sum(loaded.report, seen), files=(*loaded.files, file))


def _sum(a: Report, b: Report) -> Report:
    return Report(a.used + b.used, a.total + b.total, a.left + b.left)


def _is(kind: Callable[[Path], bool], path: str) -> bool:
    """Ask about a path that may be no path at all: too long, or with a NUL."""
    try:
        return kind(Path(path))
    except (OSError, ValueError):
        return False


def weights_name(weights: str) -> str:
    """Return the short name that goldens and published facts know weights by; never a machine's path.

        270m -> 270m;  path/to/gemma-3-1b-it -> gemma-3-1b-it;  models--google--gemma-3-1b-it/snapshots/REV -> the same

    Args:
        weights: as given to `load`.
    """
    if not _is(Path.exists, weights):
        return weights
    path = Path(weights).resolve()
    snapshot = next((part for part in path.parts if part.startswith("models--")), None)
    return snapshot.split("--")[-1] if snapshot else path.name


def _load_gguf(path: Path, name: str) -> Loaded:
    file = open_gguf(path)
    if file.metadata.get("general.architecture") == "clip":
        raise wanted("general.architecture", path, "gemma3 (an mmproj file goes to --mmproj)", "clip")
    token_table = gguf_name("embedding", None)
    if token_table not in file.tensors:
        raise wanted(f"tensor {token_table}", path, "an embedding", f"none among {len(file.tensors)} tensors")
    config = config_from_gguf(file.metadata, file.shape(token_table)[0], path)
    untied = file.has(gguf_name(HEAD, None))
    report = check_tensors(file, wanted_shapes(config, gguf_name, untied), lambda name: False, path)
    params = build_params(file, config, gguf_name, gguf_norms=True, untied=untied)
    tuned = "it" in str(file.metadata.get("general.finetune", file.metadata.get("general.name", ""))).lower().split()
    tuned = tuned or _says_tuned(path.name)
    return Loaded(name, "file", params, report, cache(lambda: _gguf_tokenizer(file, path)), tuned, files=(file,))


def _says_tuned(name: str) -> bool:
    """Tell whether a name says `-it` as the official ones do: gemma-3-4b-it, gemma-3-4b-it-q4_0.gguf."""
    return re.search(r"-it(?![a-z])", name.lower()) is not None


def _stops_at_turns(folder: Path) -> bool:
    """Tell whether a folder is instruction-tuned: its stop ids hold <end_of_turn>; else by its name."""
    for name in ("generation_config.json", "config.json"):
        stop = read_json(folder / name).get("eos_token_id") if (folder / name).is_file() else None
        if isinstance(stop, list):
            return END_OF_TURN in stop
    return _says_tuned(weights_name(str(folder)))


def _gguf_tokenizer(file: GgufFile, path: Path) -> Tokenizer:
    from ref.prompt.rebuild import cached_model, rebuild_model

    model = cached_model(file.vocabulary_digest(), lambda: rebuild_model(*file.vocabulary()), cache_folder())
    return Tokenizer(model, path)


def _load_folder(folder: Path) -> Loaded:
    content = read_json(folder / "config.json")
    config = config_from_hugging_face(content, folder / "config.json")
    shards = open_sharded(folder)
    files = with_codes(shards, content, folder / "config.json")
    names = set(files.names())
    prefix = next((p for p in HUGGING_FACE_PREFIXES if p + "embed_tokens.weight" in names), HUGGING_FACE_PREFIXES[0])

    head = next((name for name in HEADS if name in names), None)

    def name_of(field, layer):
        return head if field == HEAD and head else hugging_face_name(field, layer, prefix)

    untied = _is_untied(files, content, name_of(EMBEDDING, None), head, folder)
    shapes, left = wanted_shapes(config, name_of, untied), (*HEADS, *VISION_PREFIXES)
    see = vision_name_of = None
    if content["model_type"] == "gemma3" and any(name.startswith(VISION_PREFIXES) for name in names):
        see = vision_from_hugging_face(content, config, folder / "config.json")
        vision_name_of, tower = vision_names(names)
        shapes |= wanted_vision_shapes(see, config.width, vision_name_of)
        left = (*HEADS, f"{tower}head.")  # SigLIP's own pooling, which Gemma 3 does not use
    report = check_tensors(files, shapes, lambda name: name.startswith(left), folder)
    params = build_params(files, config, name_of, untied=untied)
    vision = build_vision(files, see, vision_name_of) if see and vision_name_of else None
    tuned = _stops_at_turns(folder)
    return Loaded(
        str(folder), "file", params, report, cache(lambda: _folder_tokenizer(folder)), tuned, vision, (shards,)
    )


def _is_untied(files: Any, content: dict[str, Any], embedding: str, head: str | None, folder: Path) -> bool:
    """Tell whether a folder's head is a tensor of its own: its configuration says so, or its values do.

    Source: transformers 5.23 `PreTrainedModel.tie_weights`, which believes values more than a configuration.
    Differs: transformers draws a head that is said to be untied and is not there.
    """
    says = [part.get("tie_word_embeddings") for part in (content, content.get("text_config", content))]
    for one in says:
        if one not in (True, False, None):
            raise wanted("tie_word_embeddings", folder / "config.json", "true or false", quoted(str(one)))
    if False in says or head is None:
        return False in says
    return embedding in set(files.names()) and not _are_equal(files.array(embedding), files.array(head))


def _are_equal(a: Weight, b: Weight) -> bool:
    """Tell whether two matrices hold the same, some rows at a time: a trained head may differ in few of them."""
    if a.shape != b.shape:
        return False
    pieces = (slice(start, start + ROWS) for start in range(0, a.shape[0], ROWS))
    return all(_same_values(take_rows(a, rows), take_rows(b, rows)) for rows in pieces)


def _same_values(a: Weight, b: Weight) -> bool:
    """Tell whether rows hold the same values; the same bits, as of a tied head that was stored, need no widening."""
    return np.array_equal(a, b) or np.array_equal(widen(a), widen(b))


def _folder_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.model"
    return Tokenizer.from_file(path) if path.exists() else default_tokenizer(folder)


def default_tokenizer(where: object) -> Tokenizer:
    """Return Gemma 3's tokenizer out of the extra [weights]; every size shares it.

    Args:
        where: the weights that came without one, for the refusal.

    Raises:
        BadInput: the extra is not installed.
    """
    if not has_package():
        raise wanted("tokenizer", where, f"a tokenizer.model, or {INSTALL}, or --ids", "neither")
    path = package_file()
    return _gguf_tokenizer(open_gguf(path), path)


TOYS = ("tiny", "tiny-long")  # one text model and two vision towers


def _make(name: str, size_and_seed: str) -> Loaded:
    size, _, seed = size_and_seed.partition(":")
    if seed and not re.fullmatch("-?[0-9]{1,40}", seed):
        raise wanted("seed", f"--weights {name}", "an integer", seed)
    config = find_size("tiny" if name in TOYS else size, f"--weights {name}")
    number, released = int(seed or 0), name not in TOYS
    params = synthetic_params(config, number, bfloat16=released)
    see = VISION.get(config.name if released else name)
    vision = synthetic_vision(see, config.width, number, bfloat16=released) if see else None
    count = len(wanted_shapes(config, hugging_face_name))
    count += len(wanted_vision_shapes(see, config.width, vision_name)) if see else 0
    tokenizer = _no_tokenizer if config.name == "tiny" else cache(lambda: default_tokenizer(name))
    return Loaded(name, "file", params, Report(count, count, ()), tokenizer, False, vision)


def _no_tokenizer() -> Tokenizer:
    raise BadInput("tiny: tokenizer: wanted token ids below 97 (--ids), got text: these weights have no tokenizer")
