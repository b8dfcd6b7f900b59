"""Folders of safetensors: one file, or shards and the index that says which tensor lies in which."""

from pathlib import Path

import numpy as np

from ref.errors import wanted
from ref.untrusted import map_file, parse_json, quoted
from ref.weights.safetensors_file import LONGEST_HEADER, SafetensorsFile, TensorInfo, open_safetensors

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Shards:
    """The tensors of a folder, whichever file they lie in."""

    def __init__(self, folder: Path, files: dict[str, SafetensorsFile]):
        self.path, self._files = folder, files  # tensor -> the file that has it

    def names(self) -> list[str]:
        """Return the names of all tensors, in the order of the index or header."""
        return list(self._files)

    def info(self, name: str) -> TensorInfo:
        """Return where a tensor lies in its file; BadInput if no file has one of this name."""
        return self._file(name).info(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._file(name).shape(name)

    def type(self, name: str) -> str:
        """Return the name of a tensor's dtype, as F32 or BF16."""
        return self._file(name).type(name)

    def has(self, name: str) -> bool:
        """Tell whether a file has a tensor of this name."""
        return name in self._files

    def raw(self, name: str) -> bytes:
        """Return a tensor's bytes as they lie in its file."""
        return self._file(name).raw(name)

    def array(self, name: str) -> np.ndarray:
        """Return a tensor as a read-only view, as `SafetensorsFile.array` does."""
        return self._file(name).array(name)

    def _file(self, name: str) -> SafetensorsFile:
        if name not in self._files:
            raise wanted(f"tensor {quoted(name)}", self.path, "a tensor of this folder", "no such name")
        return self._files[name]


def _check_link(path: Path):
    """Refuse a link that leaves the folder, except into the `blobs` of its Hugging Face cache."""
    try:
        target, home = path.resolve().parent, path.parent.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise wanted("link", path, "a file", error) from None
    snapshot = home.parent.name == "snapshots" and target == home.parent.parent / "blobs"
    if target != home and not snapshot:
        raise wanted("link", path, f"to stay in its folder {home}", target)


def _open_shard(folder: Path, name: str, index: Path) -> SafetensorsFile:
    plain = name.isascii() and name.isprintable() and len(name) <= 255
    if not plain or not name.endswith(".safetensors") or set(name) & set("/\\:"):
        want = "the plain name of a .safetensors file beside the index"
        raise wanted("weight_map", index, want, quoted(name))
    path = folder / name
    _check_link(path)
    if not path.is_file():
        raise wanted("weight_map", index, "shards that are there", f"{name} missing")
    return open_safetensors(path)


def _open_index(folder: Path, index: Path) -> Shards:
    _check_link(index)
    data = map_file(index)
    if len(data) > LONGEST_HEADER:
        raise wanted("index", index, f"at most {LONGEST_HEADER} bytes", len(data))
    places = parse_json(data[:], index, "index").get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise wanted("weight_map", index, "an object: tensor to file name", quoted(places))
    shards = {shard: _open_shard(folder, shard, index) for shard in dict.fromkeys(places.values())}
    for name, shard in places.items():
        if name not in shards[shard].tensors:
            raise wanted(f"tensor {quoted(name)}", index, f"to be in {shard}", "not there")
    for shard, file in shards.items():
        for name in file.tensors:
            if places.get(name) != shard:
                got = places.get(name, "no entry in weight_map")
                raise wanted(f"tensor {quoted(name)}, which lies in {shard}", index, f"{shard} only", got)
    return Shards(folder, {name: shards[shard] for name, shard in places.items()})


def open_sharded(folder: str | Path) -> Shards:
    """Open the weights of a Hugging Face folder: its index and shards or, where it has no index, one file.

    Args:
        folder: with `model.safetensors.index.json` and the shards it names, or with `model.safetensors`.

    Returns:
        All tensors by name.

    Raises:
        BadInput: neither is there; a shard is missing, broken or outside the folder; the index and the shards
            disagree on where a tensor is, or a tensor is in two shards.

    Source: transformers `modeling_utils.py`.
    Differs: transformers prefers the single file if both are there, and ignores tensors that the index does
        not name.
    """
    folder = Path(folder)
    index, single = folder / INDEX, folder / SINGLE
    if index.exists():
        return _open_index(folder, index)
    if not single.exists():
        raise wanted("weights", folder, f"{INDEX} or {SINGLE}", "neither")
    _check_link(single)
    file = open_safetensors(single)
    return Shards(folder, dict.fromkeys(file.tensors, file))
