"""Read a dump, version 1 or 2: `dump.json`, checked beyond its schema, and its tensors as they lie in its files.

A dump may be several folders, one of each rank that the model lay on: what they hold is put together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ref.dump.align import Raw, Stored, align_all, values_of
from ref.dump.claims import check_vocabulary
from ref.dump.layouts import FLOATS, Lengths, lengths_of
from ref.dump.opened import Dump, DumpPass
from ref.dump.rank_folders import RankDump, read_ranks
from ref.dump.rank_parts import tensors_of_ranks
from ref.dump.read_arrays import STORED, Files
from ref.dump.read_sketch import Sketches
from ref.dump.row_keys import Placed, RowKeys, without_holes
from ref.dump.sketched import SketchedTap
from ref.errors import wanted
from ref.untrusted import is_integer, quoted

LONGEST_NAME = 255  # of a file, in any common file system


def read_folder(folder: Path, config: Mapping[str, Any] | None = None) -> Dump:
    """Open a dump, version 1 or 2.

    Args:
        folder: the dump, or a folder with that of each rank.
        config: lengths of axes for a dump whose own configuration leaves them out.

    Raises:
        BadInput: what the schema refuses; lengths that disagree, a cached pass that continues none, keys and slots that
            are not there, ids out of the vocabulary; a file missing, broken, outside the folder, or unlike what
            `dump.json` says of it; axes that do not fit; ranks that are missing or do not go together.

    Source: README, "Taps and dumps"; `golden/schema/dump.schema.json`.
    """
    ranks = read_ranks(folder)
    content, folder, parent = ranks[0].content, ranks[0].folder, folder
    own = content["model"]["config"]
    known, names = {**(config or {}), **own}, content["names"]
    files, where = Files(), folder / "dump.json"
    passes: list[tuple[int, DumpPass]] = []
    partial: dict[int, dict[str, SketchedTap]] = {}
    unaligned: dict[tuple[str, str], dict[str, str]] = {}
    rows = _Rows(where)
    for number, row in enumerate(content["passes"]):
        which, placed = rows.place(row, number, content["format_version"])
        pixels, seen_in = _pixels(ranks, number, files)
        images = _images(row, known) if pixels is None else len(pixels)
        T, keys = placed.lengths
        lengths = lengths_of(known, 1, T, keys - T, images)
        if pixels is not None:
            _check_pixels(pixels, row, lengths, seen_in)
        if "v" in lengths.text:
            blocks, cached = placed.row["image_blocks"], placed.row["cached"]
            check_vocabulary(placed.row["ids"], blocks, cached, lengths.text["v"], f"{where}: pass {number}")
        sketches = Sketches(files, content.get("sketch"), row.get("sketch", number), placed, f"{where}: pass {number}")
        tensors, left = _tensors(ranks, number, files, names, lengths, sketches)
        partial |= {number: sketches.found} if sketches.found else {}
        unaligned |= {(one["name"], one["why"]): one for one in left}
        tensors = without_holes(tensors, placed, f"{where}: pass {number}")
        passes.append((which, DumpPass(number, **placed.row, pixels=pixels, tensors=tensors, kept=placed.kept)))
    in_order = [one for _, one in sorted(passes, key=lambda pair: pair[0])]  # each row's passes behind each other
    model = content["model"]
    left = list(unaligned.values())
    weights, policy = model["weights"], content["policy"]
    if ranks[0].of > 1:  # each rounds its part of a sum; digests are of slices
        weights, policy = weights | {"sha256": None}, {"ranks": ranks[0].of} | policy
    dump = Dump(str(parent), content["producer"], own, weights, policy, in_order, left)
    return dump._replace(adapter=model.get("adapter"), partial=partial)


class _Rows:
    """The rows of a batch while their passes are read."""

    def __init__(self, where: Path):
        self.where, self.rows, self.last, self.total = where, dict[int, RowKeys](), -1, 0

    def place(self, row: Mapping[str, Any], number: int, version: int) -> tuple[int, Placed]:
        """Check what a schema cannot; return the pass's row, and the pass as keys without holes."""
        what = f"pass {number}"
        if version == 1:
            self.total = _check_pass(row, what, self.total, self.where)
        next_row = max(self.rows, default=-1) + 1
        self.last = row.get("row", self.last if row["cached"] and self.rows else next_row)
        placed = self.rows.setdefault(self.last, RowKeys()).place(row, what, self.where)
        _check_blocks(row, what, self.where)
        return self.last, placed


def _check_pass(row: Mapping[str, Any], what: str, keys: int, where: Path) -> int:
    """Check what version 1 has besides its schema, and return how many keys there are after the pass."""
    tokens, cached, pads = len(row["ids"]), row["cached"], row["left_pads"]
    if len(row["positions"]) != tokens:
        raise wanted(f"positions of {what}", where, f"{tokens}, as ids", len(row["positions"]))
    if cached not in (0, keys):
        raise wanted(f"cached of {what}", where, f"0, or the {keys} keys that the pass before leaves", cached)
    if pads and pads >= (cached or tokens):
        raise wanted(f"left_pads of {what}", where, f"fewer than {cached or tokens}", pads)
    blank = [place for place, position in enumerate(row["positions"]) if position < 0]
    if blank != list(range(0 if cached else pads)):
        want = f"-1 at its {pads} left pads and nowhere else" if not cached else "none below 0, since it is cached"
        raise wanted(f"positions of {what}", where, want, f"-1 at {blank}")
    return cached + tokens


def _check_blocks(row: Mapping[str, Any], what: str, where: Path) -> None:
    before, total = 0, row["cached"] + len(row["ids"])
    for start, stop in row["image_blocks"]:
        if not before <= start < stop <= total:
            want = f"start < stop <= {total}, one behind the other"
            raise wanted(f"image_blocks of {what}", where, want, row["image_blocks"])
        before = stop


def _tensors(ranks: list[RankDump], number: int, files: Files, names: str, lengths: Lengths, sketches: Sketches):
    """Align the tensors of a pass, file by file, so that a refusal names the file; sketches go to who collects them."""
    if "parallel" in ranks[0].content:
        raw_of = lambda where, name, entry: _raw(inside(where, entry["file"]), files, name, entry)  # noqa: E731
        return tensors_of_ranks(ranks, number, names, lengths, raw_of)
    folder, listing = ranks[0].folder, ranks[0].content["passes"][number]["tensors"]
    tensors: dict[str, Stored] = {}
    left: list[dict[str, str]] = []
    by_file: dict[str, dict[str, Any]] = {}
    for name, entry in listing.items():
        by_file.setdefault(entry["file"], {})[name] = entry
    for file, entries in by_file.items():
        path = inside(folder, file)
        raw, stands = dict[str, Raw](), dict[str, str]()
        for name, entry in entries.items():
            stands[entry.get("name", name)] = name
            one = sketches.raw(path, name, entry) if "sketch" in entry else _raw(path, files, name, entry)
            raw[entry.get("name", name)] = one
        found, unaligned = align_all(raw, names, lengths, folder / file)
        left += unaligned
        for tap, one in found.items():
            other = tensors.get(tap) or sketches.found.get(tap)
            if other:
                left.append({"name": one.foreign, "why": f"the same tap as {other.foreign}: {tap}"})
            elif "sketch" in entries[stands[one.foreign]]:
                left += sketches.take(path, tap, one, stands[one.foreign], entries[stands[one.foreign]])
            else:
                tensors[tap] = one
    return tensors, left


def _raw(path: Path, files: Files, name: str, entry: Mapping[str, Any]) -> Raw:
    raw = files.raw(path, name, entry["layout"])
    if "plus" in entry:
        if entry["plus"] == name or raw.dtype not in FLOATS:
            got = f"{quoted(entry['plus'])} beside {raw.dtype}"
            raise wanted(f"plus of {quoted(name)}", path, "another tensor, both of floats", got)
        raw = _sum(raw, files.raw(path, entry["plus"], entry["layout"]), f"tensor {quoted(entry['plus'])}", path)
    kind, shape = files.get(path).info(name)[:2]
    got = f"{STORED[kind]} {list(shape)}"
    if got != f"{entry['dtype']} {entry['shape']}":
        raise wanted(f"tensor {quoted(name)}", path, f"{entry['dtype']} {entry['shape']}, as dump.json says", got)
    return raw


def _sum(raw: Raw, other: Raw, what: str, path: Path) -> Raw:
    """Return two tensors of one value as their sum; it is no more exact than they are."""
    if (raw.dtype, raw.shape) != (other.dtype, other.shape):
        want = f"{raw.dtype} {list(raw.shape)}, as what it is added to"
        raise wanted(what, path, want, f"{other.dtype} {list(other.shape)}")
    return raw._replace(read=lambda: values_of(raw.read()).astype(np.float64) + values_of(other.read()))


def inside(folder: Path, file: str) -> Path:
    """Return the path of a file in a folder.

    Args:
        folder: where it must be.
        file: its name, out of a file that is not trusted.

    Raises:
        BadInput: a path, no name of a file, or a link that leads out of the folder or to itself.
    """
    path = folder / file
    if len(file) > LONGEST_NAME:
        raise wanted("file", folder, "a file in this folder", f"{quoted(file)}, File name too long")
    try:
        leads_out = Path(file).name != file or path.resolve().parent != folder.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself; a NUL
        got = f"{quoted(file)}, {getattr(error, 'strerror', None) or error}"
        raise wanted("file", folder, "a file in this folder", got) from None
    if leads_out:
        raise wanted("file", folder, "a file in this folder", f"{quoted(file)}, which leads out of it")
    return path


def _pixels(ranks: list[RankDump], number: int, files: Files) -> tuple[np.ndarray | None, Path]:
    """Return the pixels that went in, a view of the file of the first rank that has them, and its path."""
    said = [(one.folder, one.content["passes"][number]["pixels"]) for one in ranks]
    folder, file = next((pair for pair in said if pair[1] is not None), (ranks[0].folder, None))
    return (
        (None, folder) if file is None else (values_of(files.raw(inside(folder, file), "pixels").read()), folder / file)
    )


def _images(row: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """Return how many images a pass whose pixels are not there has places for; None where that is not known."""
    seen = config.get("vision")
    each: Any = seen.get("soft_tokens") if isinstance(seen, Mapping) else None
    soft = sum(max(0, stop - max(start, row["cached"])) for start, stop in row["image_blocks"])
    return soft // each if is_integer(each, 1) and soft and soft % each == 0 else None


def _check_pixels(pixels: np.ndarray, row: Mapping[str, Any], lengths: Lengths, where: Path) -> None:
    sides = [lengths.vision.get(letter, length) for letter, length in zip("cyx", pixels.shape[1:], strict=False)]
    if pixels.ndim != 4 or pixels.dtype.kind != "f" or list(pixels.shape[1:]) != sides:
        want = f"floats [images, {', '.join(map(str, sides))}]" if pixels.ndim == 4 else "floats [images, C, Y, X]"
        raise wanted("pixels", where, want, f"{pixels.dtype} {list(pixels.shape)}")
    soft, each = sum(stop - start for start, stop in row["image_blocks"]), lengths.vision.get("m")
    if each and soft and soft != each * len(pixels):
        raise wanted("pixels", where, f"images for {soft} soft tokens, {each} each", f"{len(pixels)} images")
