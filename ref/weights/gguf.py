"""GGUF files, versions 2 and 3: a bounded reader over a memory map. Arrays are views of it.

    "GGUF", version u32, tensors u64, pairs u64
    pairs:    key, type u32, value                       a string is its length u64 and its bytes
    tensors:  name, dimensions u32, sizes u64..., type u32, offset u64
    data, from the next multiple of `general.alignment` on; the offsets count from there

A file can claim anything. Each size is compared with the file before it is used, so a claim costs nothing.
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

STRING, ARRAY = 8, 9
# value type -> letter of `struct`, also a NumPy type; 7 is a boolean of one byte
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
SHORT = 1024  # longer arrays are not decoded on opening
FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}

# Number -> (name, values a block, bytes a block), also of what is not decoded here: it must fit the file too
TYPES = {form.type_id: (name, form.length, form.size) for name, form in FORMATS.items() if form.type_id >= 0} | {
    **{0: ("F32", 1, 4), 1: ("F16", 1, 2), 3: ("Q4_1", 32, 20), 7: ("Q5_1", 32, 24), 9: ("Q8_1", 32, 40)},
    **{10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66)},
    **{17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18)},
    **{21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1)},
    **{25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56)},
    **{30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17)},
}


class LongArray(NamedTuple):
    """A metadata array left in the file: over 1024 elements, or the tokenizer's (bytes, not always text)."""

    type: int  # of an element
    offset: int  # of its first byte in the file
    count: int
    nbytes: int


class TensorInfo(NamedTuple):
    """Where a tensor lies; the shape in NumPy's order, the contiguous axis last (files write it first)."""

    shape: tuple[int, ...]
    type: str
    offset: int  # from the start of the file
    nbytes: int


class Vocabulary(NamedTuple):
    """The tokenizer's pieces by token id."""

    pieces: list[bytes]  # UTF-8
    scores: np.ndarray  # float32
    types: np.ndarray  # int32: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte


class _Cursor:
    """Reads forward and never past the end."""

    def __init__(self, data, path):
        self.data, self.path, self.at, self.end = data, path, 0, len(data)

    def need(self, count: int, what: str):
        if count > self.end - self.at:
            got = f"a file that ends at {self.end}"
            raise wanted(what, self.path, f"{count} bytes from offset {self.at} on", got)

    def number(self, letter: str, what: str):
        size = struct.calcsize("<" + letter)
        self.need(size, what)
        self.at += size
        return struct.unpack_from("<" + letter, self.data, self.at - size)[0]

    def count(self, least: int, what: str) -> int:
        """Read how many items follow, each of at least so many bytes."""
        count = self.number("Q", f"number of {what}")
        if count > (self.end - self.at) // least:
            room = f"at most {(self.end - self.at) // least}, which is what the file has room for"
            raise wanted(f"number of {what}", self.path, room, count)
        return count

    def text(self, what: str) -> str:
        size = self.count(1, f"bytes in {what}")
        self.at += size
        try:
            return self.data[self.at - size : self.at].decode()
        except UnicodeDecodeError as error:
            raise wanted(what, self.path, "UTF-8", error) from None

    def skip_strings(self, count: int, what: str):
        # the only long loop of opening a file (262,144 pieces), hence the local names
        data, last, length, at = self.data, self.end - 8, struct.Struct("<Q").unpack_from, self.at
        for index in range(count):
            if at > last:
                raise wanted(f"string {index} of {what}", self.path, f"to lie in {self.end} bytes", f"offset {at}")
            at += 8 + length(data, at)[0]
        self.at = at
        self.need(0, f"the last string of {what}")


def _read_value(cursor: _Cursor, kind: int, key: str):
    what = f"metadata {quoted(key)}"
    if kind == STRING:
        return cursor.text(what)
    if kind == ARRAY:
        return _read_array(cursor, key, what)
    if kind not in NUMBERS:
        raise wanted(f"type of {what}", cursor.path, "0 to 12", kind)
    value = cursor.number(NUMBERS[kind], what)
    if kind != 7:
        return value
    if value > 1:
        raise wanted(what, cursor.path, "a boolean, 0 or 1", value)
    return bool(value)


def _read_array(cursor: _Cursor, key: str, what: str):
    kind = cursor.number("I", f"element type of {what}")
    if kind not in NUMBERS and kind != STRING:
        raise wanted(f"element type of {what}", cursor.path, "a number or string (0 to 8, 10 to 12)", kind)
    size = 8 if kind == STRING else struct.calcsize("<" + NUMBERS[kind])
    count = cursor.count(size, f"elements of {what}")
    start = cursor.at
    if count <= SHORT and not key.startswith("tokenizer."):
        return [_read_value(cursor, kind, key) for _ in range(count)]
    if kind == STRING:
        cursor.skip_strings(count, what)
    else:
        cursor.at += count * size
    return LongArray(kind, start, count, cursor.at - start)


def _read_metadata(cursor: _Cursor, count: int) -> dict:
    metadata = {}
    for index in range(count):
        key = cursor.text(f"metadata key {index}")
        if key in metadata:
            raise wanted(f"metadata key {index}", cursor.path, "a key not used before", quoted(key))
        metadata[key] = _read_value(cursor, cursor.number("I", f"type of metadata {quoted(key)}"), key)
    return metadata


def _read_tensor(cursor: _Cursor, name: str) -> TensorInfo:
    """Read one entry; its offset still counts from the start of the data."""
    what = f"tensor {quoted(name)}"
    rank = cursor.number("I", f"dimensions of {what}")
    if not 1 <= rank <= 4:
        raise wanted(f"dimensions of {what}", cursor.path, "1 to 4", rank)
    sizes = [cursor.number("Q", f"shape of {what}") for _ in range(rank)]
    type_id = cursor.number("I", f"type of {what}")
    offset = cursor.number("Q", f"offset of {what}")
    if min(sizes) < 1:
        raise wanted(f"shape of {what}", cursor.path, "sizes of at least 1", sizes)
    if type_id not in TYPES:
        raise wanted(f"type of {what}", cursor.path, "a known ggml type", type_id)
    type_name, length, size = TYPES[type_id]
    if sizes[0] % length:
        raise wanted(f"row length of {what}", cursor.path, f"a multiple of {length} ({type_name})", sizes[0])
    return TensorInfo(tuple(reversed(sizes)), type_name, offset, math.prod(sizes) // length * size)


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    tensors = {}
    for index in range(count):
        name = cursor.text(f"name of tensor {index}")
        if name in tensors:
            raise wanted(f"name of tensor {index}", cursor.path, "a name not used before", quoted(name))
        tensors[name] = _read_tensor(cursor, name)
        if tensors[name].offset % alignment:
            what = f"offset of tensor {quoted(name)}"
            raise wanted(what, cursor.path, f"a multiple of {alignment}", tensors[name].offset)
    base = -(-cursor.at // alignment) * alignment
    tensors = {name: info._replace(offset=base + info.offset) for name, info in tensors.items()}
    _check_places(tensors, base, cursor)
    return tensors


def _check_places(tensors: dict[str, TensorInfo], base: int, cursor: _Cursor):
    free = base
    for name, info in sorted(tensors.items(), key=lambda item: item[1].offset):
        place = f"bytes {info.offset} to {info.offset + info.nbytes}"
        if info.offset < free:
            raise wanted(f"tensor {quoted(name)}", cursor.path, f"data from {free} on, overlapping none", place)
        free = info.offset + info.nbytes
        if free > cursor.end:
            raise wanted(f"tensor {quoted(name)}", cursor.path, f"data within {cursor.end} bytes", place)


def _read_header(cursor: _Cursor) -> tuple[int, int]:
    cursor.need(4, "magic")
    magic, cursor.at = cursor.data[:4], 4
    if magic != b"GGUF":
        raise wanted("magic", cursor.path, "GGUF", magic)
    version = cursor.number("I", "version")
    if version not in (2, 3):
        big = version in (2 << 24, 3 << 24)
        raise wanted("version", cursor.path, "2 or 3, little-endian", "a big-endian file" if big else version)
    return cursor.count(32, "tensors"), cursor.count(13, "metadata pairs")


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
    cursor = _Cursor(map_file(path), path)
    tensor_count, pair_count = _read_header(cursor)
    metadata = _read_metadata(cursor, pair_count)
    alignment = metadata.get("general.alignment", 32)
    usable = isinstance(alignment, int) and 8 <= alignment <= 65_536 and alignment.bit_count() == 1
    if not usable:
        raise wanted("general.alignment", path, "a power of two from 8 to 65536", alignment)
    return GgufFile(path, cursor.data, metadata, _read_tensors(cursor, tensor_count, alignment))
