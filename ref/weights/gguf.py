"""GGUF files, versions 2 and 3: a bounded reader over a memory map. Arrays are views of it.

The header's layout stands in `ref.weights.gguf_header`.
"""

import hashlib
import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ref.errors import wanted
from ref.ops.blocks import FORMATS, Blocks
from ref.untrusted import map_file, quoted
from ref.weights.gguf_header import STRING, Cursor, LongArray, TensorInfo, read_header, read_metadata, read_tensors

FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Vocabulary(NamedTuple):
    """The tokenizer's pieces by token id."""

    pieces: list[bytes]  # UTF-8
    scores: np.ndarray  # float32
    types: np.ndarray  # int32: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte


class GgufFile:
    """An open file: `metadata`, `tensors` by name, views of their data. The map closes with the last view."""

    def __init__(self, path: Path, data, metadata: dict, tensors: dict[str, TensorInfo]):
        self.path, self.metadata, self.tensors, self._data = path, metadata, tensors, data

    def names(self) -> list[str]:
        """Return the names of all tensors, in the order of the file."""
        return list(self.tensors)

    def info(self, name: str) -> TensorInfo:
        """Return where a tensor lies; BadInput if the file has none of this name."""
        if name not in self.tensors:
            raise wanted(f"tensor {quoted(name)}", self.path, "a tensor of this file", "no such name")
        return self.tensors[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, [out, in] for a linear layer."""
        return self.info(name).shape

    def type(self, name: str) -> str:
        """Return the name of a tensor's type, as F32 or Q8_0."""
        return self.info(name).type

    def has(self, name: str) -> bool:
        """Tell whether the file has a tensor of this name."""
        return name in self.tensors

    def raw(self, name: str) -> bytes:
        """Return a tensor's bytes as they lie in the file."""
        info = self.info(name)
        return self._data[info.offset : info.offset + info.nbytes]

    def array(self, name: str) -> np.ndarray | Blocks:
        """Return a tensor as a read-only view of the file.

        Args:
            name: of the tensor.

        Returns:
            F32 and F16 as NumPy has them, BF16 as uint16 bits, quantised types as Blocks [rows, columns]
            (leading axes flattened into rows).

        Raises:
            BadInput: no such tensor, or its type is none of the above.
        """
        info = self.info(name)
        if info.type in FLOATS:
            return self._numbers(FLOATS[info.type], info.offset, math.prod(info.shape)).reshape(info.shape)
        if info.type not in FORMATS:
            raise wanted(f"type of tensor {quoted(name)}", self.path, " ".join([*FLOATS, *FORMATS]), info.type)
        rows = math.prod(info.shape[:-1])
        return Blocks(self._numbers("u1", info.offset, info.nbytes).reshape(rows, -1), info.type)

    def vocabulary(self) -> Vocabulary:
        """Return the tokenizer's pieces, scores, types; BadInput if one is missing or their counts differ."""
        tokens, scores, types = self._vocabulary_arrays()
        length, at, pieces = struct.Struct("<Q").unpack_from, tokens.offset, []
        for _ in range(tokens.count):
            start = at + 8
            at = start + length(self._data, at)[0]
            pieces.append(self._data[start:at])
        scores = self._numbers("<f4", scores.offset, tokens.count)
        types = self._numbers("<i4", types.offset, tokens.count)
        return Vocabulary(pieces, *(np.require(array, requirements="A") for array in (scores, types)))

    def vocabulary_digest(self) -> str:
        """Return the SHA-256 (hexadecimal) of the bytes of the three vocabulary arrays: a key for caches."""
        digest = hashlib.sha256()
        for array in self._vocabulary_arrays():
            start = array.offset - 12  # with element type and count before it, so that the three cannot run together
            digest.update(self._data[start : array.offset + array.nbytes])
        return digest.hexdigest()

    def _numbers(self, dtype: str, offset: int, count: int) -> np.ndarray:
        return np.frombuffer(self._data, dtype, count, offset)

    def _vocabulary_arrays(self) -> list[LongArray]:
        arrays = []
        for field, kind in (("tokens", STRING), ("scores", 6), ("token_type", 5)):
            key = f"tokenizer.ggml.{field}"
            array = self.metadata.get(key)
            if not isinstance(array, LongArray) or array.type != kind:
                raise wanted(f"metadata {quoted(key)}", self.path, f"an array of type {kind}", array)
            if arrays and array.count != arrays[0].count:
                raise wanted(f"elements of {quoted(key)}", self.path, arrays[0].count, array.count)
            arrays.append(array)
        return arrays


def open_gguf(path: str | Path) -> GgufFile:
    """Open a GGUF file and check its whole header.

    Args:
        path: of the file.

    Returns:
        The file: metadata decoded (long arrays and the tokenizer's as LongArray), tensors by name.

    Raises:
        BadInput: not a GGUF file, truncated, or contradicting itself; the line names the field.

    Source: ggml `docs/gguf.md`.
    Differs: the format also knows nested arrays and big-endian files; both are refused here.
    """
    path = Path(path)
    cursor = Cursor(map_file(path), path)
    tensor_count, pair_count = read_header(cursor)
    metadata = read_metadata(cursor, pair_count)
    alignment = metadata.get("general.alignment", 32)
    usable = isinstance(alignment, int) and 8 <= alignment <= 65_536 and alignment.bit_count() == 1
    if not usable:
        raise wanted("general.alignment", path, "a power of two from 8 to 65536", alignment)
    return GgufFile(path, cursor.data, metadata, read_tensors(cursor, tensor_count, alignment))
