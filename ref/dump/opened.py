"""What the judge reads: a dump whose tensors are aligned and not loaded yet."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ref.dump.align import Stored
from ref.dump.read_llama_text import PartialTap
from ref.dump.sketched import SketchedTap


class Kept(NamedTuple):
    """What a pass finds in the cache of what the pass before left there."""

    index: np.ndarray  # [cached] of the keys that are left
    moved: np.ndarray  # [cached] by how many positions each was turned since


class DumpPass(NamedTuple):
    """One pass of one batch row."""

    number: int
    ids: np.ndarray  # [T] int64
    positions: np.ndarray  # [T] int64, -1 on pads
    cached: int
    image_blocks: list[list[int]]  # [start, stop] key indices
    left_pads: int
    pixels: np.ndarray | None  # [images, C, Y, X]
    tensors: dict[str, Stored]  # by our tap names
    kept: Kept | None = None  # None: every key that the pass before left, where it lay


class Dump(NamedTuple):
    """A dump, of whatever kind it was; a bare file says little of itself: "not said"."""

    where: str
    producer: dict[str, Any]
    config: dict[str, Any]
    weights: dict[str, Any]
    policy: dict[str, Any]
    passes: list[DumpPass]
    unaligned: list[dict[str, str]]  # {"name", "why"}
    # of text that shows a few values, and of small dumps: pass -> tap -> values
    partial: Mapping[int, Mapping[str, PartialTap | SketchedTap]] = {}
    # of files that hold the last token's output and nothing else: pass -> tap -> its value, of one token
    last: dict[int, dict[str, Stored]] = {}  # noqa: RUF012 - as above
    adapter: dict[str, Any] | None = None  # {"name", "merged"} of what was put on the weights
