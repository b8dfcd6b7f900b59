"""Sound inputs to be damaged, small ones, and how to read a dump to its last value."""

import json
import math
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import ref
from ref.dump.open import open_dump
from ref.dump.sketched import SketchedTap
from ref.dump.trace import trace
from ref.golden_files.sampled import made_pixels
from ref.model.multimodal import Images
from ref.model.text import How
from ref.record import Recorder, Sketch

TINY = ref.load("tiny")
CONFIG = TINY.params.config._asdict() | {"vision": TINY.vision.config._asdict()}
IDS = [5, 7, 9, 11, 2, 3]
ANY_IDS = [None, IDS, [IDS, IDS], [], [[]], [1.5], "abc", [2**70], [[1, 2], [3]], {"a": 1}, [True] * 6]
MOST_VALUES = 10**6  # that are read of one tensor
LAYER = [f"text.layer.0.{name}" for name in ("in", "attn.q", "attn.visible", "attn.probs")]
CACHE = [f"text.layer.0.cache.{name}" for name in ("k", "positions")]
SEEN = ["vision.soft_tokens", "vision.layer.0.attn.q", "model.merged"]


def dump_folder(images: bool) -> tuple[dict, dict[str, bytes]]:
    """Return the dump.json of a traced dump of few taps, and its other files."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "dump"
        if images:
            see = Images(TINY.vision, made_pixels(1, 40))
            trace(TINY, [[5, 97, 97, 97, 97, 9, 3]], folder, How(), ["text.embed", *LAYER, *SEEN], 0, see)
        else:
            trace(TINY, [IDS], folder, How(), ["text.embed", *LAYER, *CACHE, "text.logits"], 1)
        files = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
        return json.loads((folder / "dump.json").read_text()), files


def serving_folder() -> tuple[dict, dict[str, bytes]]:
    """Return such a dump in version 2: of a row, with keys in slots, keys that are left, a stream kept as two."""
    content, files = dump_folder(False)
    content["format_version"] = 2
    for one, slots in zip(content["passes"], ([5, 0, 1, 2, 3, 4], [6]), strict=True):
        one["tensors"].pop("text.layer.0.attn.visible")
        one["tensors"]["text.embed"]["plus"] = "text.layer.0.in"
        one |= {"row": 1, "slots": slots, "cache_slots": one["cached"] + len(one["ids"])}
    content["passes"][1]["kept"] = [[0, 4, 0], [4, 6, 4]]
    return content, files


def ranked_folder() -> tuple[dict, dict[str, bytes]]:
    """Return a dump of three ranks in one: queries in slices, a sum in parts, replicas."""
    rng = np.random.default_rng(4)
    with TemporaryDirectory() as place:
        folder = Path(place) / "dump"
        with Recorder(folder, IDS, weights="tiny", config=CONFIG, tensor=3) as rec:
            for rank in range(3):
                q = rng.standard_normal((len(IDS), 4, 10)).astype(np.float32)
                rec("text.layer.0.attn.q", q, "T N H", slice={"N": (4 * rank, 4 * rank + 4)}, rank=rank)
                rec("text.layer.0.attn.out", q.reshape(len(IDS), -1)[:, :36], "T D", partial=True, rank=rank)
                rec("text.layer.0.attn.pre_norm", np.ones((len(IDS), 36), np.float32), "T D", rank=rank)
        files = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
        return json.loads((folder / "dump.json").read_text()), files


def small_folder() -> tuple[dict, dict[str, bytes]]:
    """Return a dump of sketches: padding, keys in slots, a sum, a value that is not finite, a step."""
    rng, slots = np.random.default_rng(5), [3, 1, 2, 8, 7, 0]
    x, q, scores = (rng.standard_normal((6, *rest)).astype(np.float32) for rest in ((36,), (12, 10), (12, 9)))
    x[3, 7] = np.nan
    with TemporaryDirectory() as place:
        folder, how = Path(place) / "dump", {"positions": [0, 1, -1, 2, 3, 4], "slots": slots, "cache_slots": 9}
        with Recorder(folder, IDS, weights="tiny", config=CONFIG, sketch=Sketch(20), **how) as rec:
            rec("text.layer.0.in", x, "T D")
            rec("text.layer.0.mid", x, "T D", plus=x)
            rec("text.layer.0.attn.q", q, "T N H")
            rec("text.layer.0.attn.scores", scores, "T N S")
            rec.next_pass([5], slots=[4], cache_slots=9)
            rec("text.layer.0.attn.q", q[:1], "T N H")
        files = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
        return json.loads((folder / "dump.json").read_text()), files


def arrays() -> dict[str, np.ndarray]:
    """Return the tensors of a bare file."""
    rng = np.random.default_rng(1)
    return {
        "input_ids": np.array([IDS]),
        "text.embed": rng.normal(size=(1, 6, 36)).astype(np.float32),
        "text.layer.0.attn.q [B T (N H)]": rng.normal(size=(1, 6, 120)).astype(np.float32),
        "text.layer.0.attn.visible": np.tril(np.ones((1, 6, 6), bool)),
        "text.logits": rng.normal(size=(1, 6, 97)).astype(np.float16),
    }


def split_safetensors(data: bytes) -> tuple[dict, bytes]:
    """Return header and data of a safetensors file."""
    length = struct.unpack_from("<Q", data)[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def read_whole(path: Path, ids: Any = None, names: str | None = None, config: Any = None) -> None:
    """Open a dump and read what it holds; what is read must be what was said."""
    opened = open_dump(path, ids, names, config)
    for one in opened.partial.values():
        for tap, shown in one.items():
            if isinstance(shown, SketchedTap):
                kept = shown.read()
                assert all((at < length).all() for at, length in zip(kept.places, kept.shape, strict=True)), tap
    for one in opened.passes:
        for tap, stored in one.tensors.items():
            if math.prod(stored.shape) <= MOST_VALUES:
                value = stored.load()
                assert value.shape == tuple(stored.shape), f"{tap}: {value.shape} where {stored.shape} was said"


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """Make a folder hold these files and nothing else."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
