"""From a file's tensors to `TextParams`: every tensor used or accounted for, every shape checked, nothing folded."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from ref.config import TextConfig
from ref.errors import wanted
from ref.model.params import LayerParams, TextParams, VisionParams
from ref.ops.blocks import FORMATS, Blocks
from ref.ops.linear import ByRows, take_rows, widen, widen_jit
from ref.ops.rounding import round_bfloat16
from ref.ops.simd import CACHE_LINE
from ref.weights.names import EMBEDDING, FINAL_NORM, HEAD, LAYER_NAMES, MATRICES, is_norm, text_shapes

HELD_AS = ("file", "memory", "float32", "bfloat16")
HELD = ("F64", "F32", "F16", "BF16", *FORMATS)  # types of safetensors and GGUF that are Weights


class TensorSource(Protocol):
    """A file, or several, that knows its tensors by name and hands out views of them."""

    def names(self) -> Sequence[str]:
        """List the tensors."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape in NumPy order."""
        ...

    def type(self, name: str) -> str:
        """Return the name of a tensor's type, as the file format spells it."""
        ...

    def array(self, name: str) -> Any:
        """Return a tensor as a Weight."""
        ...


class Report(NamedTuple):
    """What loading found: how many tensors the model uses, of how many, and which others were left alone."""

    used: int
    total: int
    left: tuple[str, ...]


Layer = TypeVar("Layer")  # LayerParams or VisionLayerParams
Params = TypeVar("Params", TextParams, VisionParams)


class LazyLayers(Sequence[Layer]):
    """Layers that are built when they are asked for; nothing is kept, unless `build` does."""

    def __init__(self, count: int, build: Callable[[int], Layer]):
        self._length, self._build = count, build

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, layer):
        if not 0 <= layer < self._length:
            raise IndexError(layer)
        return self._build(layer)


def wanted_shapes(
    c: TextConfig, name_of: Callable[[str, int | None], str], untied: bool = False
) -> dict[str, tuple[int, ...]]:
    """List the shape that each tensor of a checkpoint must have, under its foreign name.

    Args:
        c: the configuration.
        name_of: from (field, layer or None) to the foreign name; see `ref.weights.names`.
        untied: whether the head is a tensor of its own.

    Source: `text_shapes`.
    """
    return {name_of(field, layer): shape for field, layer, shape in text_shapes(c, untied)}


def check_tensors(
    source: TensorSource, shapes: dict[str, tuple[int, ...]], known: Callable[[str], bool], where: object
) -> Report:
    """Refuse a checkpoint with a missing, unknown or mis-shaped tensor.

    Args:
        source: the file.
        shapes: what must be there.
        known: tells whether a further name is one that the text model may leave alone (vision tower, tied head).
        where: the file, for refusals.

    Returns:
        Report.

    Raises:
        BadInput: naming the first such tensor and how many of how many were found.
    """
    names = set(source.names())
    found = f"{len(names & shapes.keys())} of {len(shapes)} tensors found"
    for name, shape in shapes.items():
        if name not in names:
            raise wanted(f"tensor {name}", where, f"shape {list(shape)}", f"no such tensor ({found})")
        got = tuple(source.shape(name))
        if got != shape:
            hint = " (transposed?)" if got == shape[::-1] else ""
            raise wanted(f"tensor {name}", where, f"shape {list(shape)}", f"{list(got)}{hint}")
        if source.type(name) not in HELD:  # an array of U16 would pass for bfloat16 bits
            raise wanted(f"type of tensor {name}", where, " ".join(HELD), source.type(name))
    left = sorted(names - shapes.keys())
    unknown = [name for name in left if not known(name)]
    if unknown:
        raise wanted("tensors", where, "only those of a Gemma 3", f"{len(unknown)} unknown, first {unknown[0]}")
    return Report(len(shapes), len(names), tuple(left))


def build_params(
    source: TensorSource,
    c: TextConfig,
    name_of: Callable[[str, int | None], str],
    gguf_norms: bool = False,
    untied: bool = False,
) -> TextParams:
    """Assemble the parameters of checked tensors, layer by layer, as views of the file where that is possible.

    Args:
        source: the file; `check_tensors` has passed.
        c: the configuration.
        name_of: as `wanted_shapes`.
        gguf_norms: the file stores norms as 1 + w, as GGUF does; 1 is taken off again.
        untied: whether the head is a tensor of its own.

    Source: transformers 5.23 `Gemma2TensorProcessor` (the same - 1).
    Differs: runtimes that read GGUF multiply by the stored value, and so have no + 1.
    """

    def get(field: str, layer: int | None):
        array = source.array(name_of(field, layer))
        return gain(array, gguf_norms) if is_norm(field) else array

    @cache  # views and gains: some kilobytes a layer, that each token would make anew
    def build(i: int) -> LayerParams:
        return LayerParams(**{field: get(field, i) for field in LAYER_NAMES})

    head = get(HEAD, None) if untied else None
    return TextParams(c, get(EMBEDDING, None), LazyLayers(c.layers, build), get(FINAL_NORM, None), head)


def gain(stored: np.ndarray | Blocks, one_was_added: bool) -> np.ndarray:
    """Return a norm's zero-centred gain as floats, exactly.

    Args:
        stored: as the file holds it; a quantised vector comes as blocks of one row.
        one_was_added: by whoever wrote the file; taken off again.

    Returns:
        [D] float32, or float64 where float32 cannot hold it.

    Source: transformers 5.23 `Gemma2TensorProcessor` (the same - 1).
    Differs: transformers takes the 1 off in float32, which rounds gains that it cannot hold.
    """
    floats = plain(stored).reshape(-1)
    if not one_was_added:
        return floats
    exact = floats.astype(np.float64) - 1.0
    narrow = exact.astype(np.float32)
    return narrow if np.array_equal(narrow.astype(np.float64), exact) else exact


def plain(stored: np.ndarray | Blocks) -> np.ndarray:
    """Return what a file holds as floats: float64 as it is, everything else as float32, exactly.

    Args:
        stored: an array or blocks.

    Returns:
        Of the same shape, float32 or float64; a view where nothing had to change.

    Source: `ref.ops.linear.widen`.
    """
    floats = widen(stored)
    return floats.astype(np.float32) if floats.dtype == np.float16 else np.asarray(floats)


def hold_as(params: Params, held_as: str) -> Params:
    """Convert how the matrices lie in memory.

    Args:
        params: as loaded, of the text model or of a vision tower.
        held_as: `file` leaves them where and as they are in the file; `memory` copies them as they are, so that they
            are read faster (`Room`); `float32` widens (exact, unless the file holds float64); `bfloat16`
            rounds to nearest even what is not bfloat16 already. Norms, biases and positions stay as they are.

    Returns:
        The same parameters, converted once and kept unless `file`.

    Raises:
        BadInput: another word.
    """
    if held_as == "file":
        return params
    if held_as not in HELD_AS:
        raise wanted("held-as", "weights", f"{', '.join(HELD_AS[:-1])} or {HELD_AS[-1]}", held_as)
    room = Room()

    def converted(some: NamedTuple) -> dict[str, Any]:
        matrices = {field: weight for field, weight in some._asdict().items() if field in MATRICES}
        return {field: _convert(weight, held_as, room) for field, weight in matrices.items() if weight is not None}

    layers = tqdm(params.layers, desc=f"weights to {held_as}", disable=None, delay=1, leave=False)
    held: Any = [layer._replace(**converted(layer)) for layer in layers]
    return params._replace(layers=held, **converted(params))


class Room:
    """Memory for many matrices in pieces of many megabytes, which the system may give out in pages of two.

    A file is mapped in pages of 4 KB, and where each lies is looked up while it is read: `python -m tests.bench
    decode-512/file` has both.
    """

    PIECE, PAGE = 64 * 2**20, 2 * 2**20  # bytes

    def __init__(self) -> None:
        self.free = np.empty(0, np.uint8)

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array of whatever numbers, which begins with a cache line."""
        size = math.prod(shape) * dtype.itemsize
        if size > self.free.size:
            whole = np.empty(max(self.PIECE, size) + self.PAGE, np.uint8)
            self.free = whole[-whole.ctypes.data % self.PAGE :]
        taken, self.free = self.free[:size], self.free[-(-size // CACHE_LINE) * CACHE_LINE :]
        return taken.view(dtype).reshape(shape)


ROWS_AT_A_TIME = 2_048  # bounds the scratch memory of a conversion


def _convert(weight, held_as, room):
    """Copy, widen or round a matrix, some rows at a time."""
    if isinstance(weight, Blocks) and held_as == "memory":
        return weight._replace(data=_convert(weight.data, held_as, room))
    dtype = {"bfloat16": np.dtype(np.uint16), "float32": np.dtype(np.float32)}.get(held_as)
    if dtype is None:
        weight = weight.take_rows(slice(None)) if isinstance(weight, ByRows) else weight
        out = room.take(weight.shape, weight.dtype)  # type: ignore[attr-defined]
        out[...] = weight
        return out
    if isinstance(weight, np.ndarray) and weight.dtype == dtype:
        return weight
    out = room.take(weight.shape, dtype)
    for start in range(0, weight.shape[0], ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        part = take_rows(weight, rows)
        wide = widen_jit(part)
        out[rows] = round_bfloat16(wide) if dtype == np.uint16 else wide
    return out
