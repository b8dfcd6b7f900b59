"""Prompts as files: what an implementation is to be run on next; and the prompt of a dump, to run it once more."""

from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np

from ref.dump.open import open_dump
from ref.dump.opened import Dump, DumpPass
from ref.dump.sketched import SketchedTap
from ref.errors import one_line, wanted
from ref.golden_files.files import check_schema
from ref.untrusted import parse_json, read_regular

FORMAT_VERSION = 1
NAME = "prompt.json"
LONGEST = 64 * 2**20  # bytes of a file


class PromptFile(NamedTuple):
    """What an implementation is run on."""

    rows: list[list[int]]  # ids, left pads included
    left_pads: list[int]  # of each row
    steps: int = 0  # greedy cached steps
    images: tuple[Path, ...] = ()  # files, in the order of their soft tokens
    pixels: np.ndarray | None = None  # [images, C, Y, X] where a dump has them instead

    @property
    def padded(self) -> bool:
        """Tell whether the rows are one batch."""
        return any(self.left_pads)

    def as_json(self) -> dict[str, Any]:
        """Return the content of a file."""
        rows = [{"ids": ids, "left_pads": pads} for ids, pads in zip(self.rows, self.left_pads, strict=True)]
        names = [path.name for path in self.images]
        return {"format_version": FORMAT_VERSION, "rows": rows, "steps": self.steps, "images": names}


def read_prompt_file(path: Path) -> PromptFile:
    """Read a prompt.

    Args:
        path: the file, or the folder that holds it as prompt.json.

    Raises:
        BadInput: no such file, one that its schema refuses, pads that are not fewer than the tokens of their row, rows
            of a batch of unlike lengths.
    """
    path = path / NAME if path.is_dir() else path
    content = parse_json(read_regular(path, "prompt", most=LONGEST), path, "prompt")
    try:
        check_schema(content, "prompt")
    except jsonschema.ValidationError as error:
        where = "/".join(map(str, error.absolute_path)) or "prompt"
        raise wanted(where, path, "what prompt.schema.json says", one_line(error.message)[:200]) from None
    rows, pads = ([row[key] for row in content["rows"]] for key in ("ids", "left_pads"))
    for number, (ids, count) in enumerate(zip(rows, pads, strict=True)):
        if count >= len(ids):
            raise wanted(f"left_pads of row {number}", path, f"fewer than its {len(ids)} tokens", count)
    if any(pads) and len({len(ids) for ids in rows}) > 1:
        raise wanted("rows", path, "one length, since some have left pads", [len(ids) for ids in rows])
    return PromptFile(rows, pads, content["steps"], tuple(path.with_name(name) for name in content["images"]))


def prompt_of(dump: str | Path) -> tuple[PromptFile, list[str]]:
    """Return the prompt that a dump is of, and the taps that it has; of a small dump none, whose taps are no values.

    Args:
        dump: as `ref.dump.open.open_dump`.

    Raises:
        BadInput: as `open_dump` and `prompt_of_dump`.
    """
    opened = open_dump(dump)
    if any(isinstance(one, SketchedTap) for taps in opened.partial.values() for one in taps.values()):
        return prompt_of_dump(opened), []
    return prompt_of_dump(opened), list(dict.fromkeys(tap for one in opened.passes for tap in one.tensors))


def prompt_of_dump(opened: Dump) -> PromptFile:
    """Return the prompt that a dump is of.

    Args:
        opened: the dump.

    Raises:
        BadInput: passes that no prompt with greedy steps makes: several cached tokens at once, keys that were dropped,
            rows with unlike numbers of steps, positions that are not counted from the first token.
    """
    chains: list[list[DumpPass]] = []
    for one in opened.passes:
        if not one.cached:
            chains.append([])
        if not chains:
            raise wanted("pass 0", opened.where, "one that continues no other", f"{one.cached} cached tokens")
        chains[-1].append(one)
    steps = {len(chain) - 1 for chain in chains}
    if len(steps) > 1 or any(len(one.ids) != 1 or one.kept is not None for chain in chains for one in chain[1:]):
        raise wanted("passes", opened.where, "prompts with equally many greedy steps of one token", "others")
    first = [chain[0] for chain in chains]
    for one in first:
        if not np.array_equal(np.maximum(one.positions, -1), np.maximum(np.arange(len(one.ids)) - one.left_pads, -1)):
            want = "counted from the first token, as an adapter runs a prompt"
            raise wanted(f"positions of pass {one.number}", opened.where, want, "others")
    seen = [one.pixels for one in first if one.pixels is not None]
    ids, pads = [one.ids.tolist() for one in first], [one.left_pads for one in first]
    return PromptFile(ids, pads, steps.pop(), pixels=np.concatenate(seen) if seen else None)
