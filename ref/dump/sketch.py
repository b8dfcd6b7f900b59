"""A small dump of one that is there whole: what compares it sees the same places as of one that was captured small."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ref.dump.rank_folders import read_ranks
from ref.dump.read_arrays import Files
from ref.dump.read_folder import inside, read_folder
from ref.dump.sketching import SKETCH_VALUES, checked
from ref.dump.write import DumpWriter
from ref.dump.write_pass import PassWriter
from ref.errors import wanted


def sketch(dump: str | Path, out: str | Path, *, values: int = SKETCH_VALUES, seed: int = 0) -> Path:
    """Write a dump once more, keeping of each tensor its norms, a digest and values at hashed places.

    Args:
        dump: a folder with dump.json and whole tensors.
        out: where the small one will be; must not exist or be empty.
        values: at how many places of each tensor, at least; smaller tensors are kept whole.
        seed: of the places.

    Returns:
        out, as a full path.

    Raises:
        BadInput: no dump, one that is small already, or one of several ranks; values or seed that cannot be; the
            folder is in use.

    Source: docs/small-dumps.md.
    """
    folder, how = Path(dump), checked(values, seed)
    if not folder.is_dir():
        raise wanted("dump", folder, "a folder with dump.json", "a file" if folder.exists() else "nothing there")
    read_folder(folder)  # checks it beyond its schema
    first, files = read_ranks(folder)[0], Files()
    content, folder = first.content, first.folder
    if "parallel" in content:
        raise wanted("dump", dump, "one without ranks: what several hold is kept whole", "parallel in its dump.json")
    if "sketch" in content:
        raise wanted("dump", folder, "a whole one", "a small one: sketches of sketches there are none")
    said = (content["model"], content["policy"], content["producer"], content["names"])
    with DumpWriter(Path(out), *said, sketch=how) as writer:
        for one in content["passes"]:
            writing = writer.begin_pass()
            _copy(folder, files, one, writing)
            row = {key: value for key, value in one.items() if key not in ("tensors", "pixels")}
            pixels = one["pixels"] and _array(files, inside(folder, one["pixels"]), "pixels")
            writer.list_pass(writing.end(row, pixels))
    return writer.folder


def _copy(folder: Path, files: Files, one: dict[str, Any], writing: PassWriter) -> None:
    """Give the tensors of a pass to who writes it, one after the other."""
    for name, entry in one["tensors"].items():
        path = inside(folder, entry["file"])
        plus = _array(files, path, entry["plus"]) if "plus" in entry else None
        writing.add_tensor(entry.get("name", name), _array(files, path, name), entry["layout"], plus)


def _array(files: Files, path: Path, name: str) -> np.ndarray:
    """Return a tensor as it lies in its file."""
    array = files.get(path).array(name)
    return array.view(ml_dtypes.bfloat16) if files.get(path).type(name) == "BF16" else array
