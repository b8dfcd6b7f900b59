"""The header of a GGUF file, versions 2 and 3, read value by value and checked against the file's size.

    "GGUF", version u32, tensors u64, pairs u64
    pairs:    key, type u32, value                       a string is its length u64 and its bytes
    tensors:  name, dimensions u32, sizes u64..., type u32, offset u64
    data, from the next multiple of `general.alignment` on; the offsets count from there

A file can claim anything. Each size is compared with the file before it is used, so a claim costs nothing.
"""

import math
import struct
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ref.errors import wanted
from ref.ops.blocks import FORMATS
from ref.untrusted import quoted

STRING, ARRAY = 8, 9
# value type -> letter of `struct`, also a NumPy type; 7 is a boolean of one byte
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
SHORT = 1024  # longer arrays are not decoded on opening

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


class Cursor:
    """Reads forward and never past the end."""

    def __init__(self, data: mmap | bytes, path: Path):
        self.data, self.path, self.at, self.end = data, path, 0, len(data)

    def need(self, count: int, what: str) -> None:
        """Refuse a file that ends before so many more bytes."""
        if count > self.end - self.at:
            got = f"a file that ends at {self.end}"
            raise wanted(what, self.path, f"{count} bytes from offset {self.at} on", got)

    def number(self, letter: str, what: str) -> Any:
        """Read a number of a type that `struct` names by a letter."""
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
        """Read a string."""
        size = self.count(1, f"bytes in {what}")
        self.at += size
        try:
            return self.data[self.at - size : self.at].decode()
        except UnicodeDecodeError as error:
            raise wanted(what, self.path, "UTF-8", error) from None

    def skip_strings(self, count: int, what: str) -> None:
        """Go past so many strings."""
        passed = self._skip_pieces(count)
        data, last, length, at = self.data, self.end - 8, struct.Struct("<Q").unpack_from, self.at
        for index in range(passed, count):
            if at > last:
                raise wanted(f"string {index} of {what}", self.path, f"to lie in {self.end} bytes", f"offset {at}")
            at += 8 + length(data, at)[0]
        self.at = at
        self.need(0, f"the last string of {what}")

    def _skip_pieces(self, count: int) -> int:
        """Go past strings of 1 to 255 bytes, none of them zero, as pieces of a vocabulary are; return how many.

        Among them only a length has zeros, seven side by side: so 262,144 lengths are found at once, not one by one.
        """
        bytes_ = np.frombuffer(self.data, np.uint8, min(24 * count, self.end - self.at), self.at)
        zeros = np.flatnonzero(bytes_ == 0)[: 7 * count]
        zeros = zeros[: zeros.size // 7 * 7].reshape(-1, 7)
        starts = zeros[:, 0] - 1  # of a length's eight bytes, if this is one
        if not starts.size or starts[0] != 0:
            return 0
        follows = (zeros[:-1, 6] == starts[:-1] + 7) & (starts[1:] == starts[:-1] + 8 + bytes_[starts[:-1]])
        passed = follows.size if follows.all() else int(np.argmin(follows))
        self.at += int(starts[passed])
        return passed


def _read_value(cursor: Cursor, kind: int, key: str):
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


def _read_array(cursor: Cursor, key: str, what: str):
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


def read_metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    """Read the pairs, each key once; long arrays and the tokenizer's stay in the file as LongArray."""
    metadata = {}
    for index in range(count):
        key = cursor.text(f"metadata key {index}")
        if key in metadata:
            raise wanted(f"metadata key {index}", cursor.path, "a key not used before", quoted(key))
        metadata[key] = _read_value(cursor, cursor.number("I", f"type of metadata {quoted(key)}"), key)
    return metadata


def _read_tensor(cursor: Cursor, name: str) -> TensorInfo:
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


def read_tensors(cursor: Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    """Read where the tensors lie: aligned, within the file, overlapping none."""
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


def _check_places(tensors: dict[str, TensorInfo], base: int, cursor: Cursor):
    free = base
    for name, info in sorted(tensors.items(), key=lambda item: item[1].offset):
        place = f"bytes {info.offset} to {info.offset + info.nbytes}"
        if info.offset < free:
            raise wanted(f"tensor {quoted(name)}", cursor.path, f"data from {free} on, overlapping none", place)
        free = info.offset + info.nbytes
        if free > cursor.end:
            raise wanted(f"tensor {quoted(name)}", cursor.path, f"data within {cursor.end} bytes", place)


def read_header(cursor: Cursor) -> tuple[int, int]:
    """Read magic and version; return how many tensors and metadata pairs follow."""
    cursor.need(4, "magic")
    magic, cursor.at = cursor.data[:4], 4
    if magic != b"GGUF":
        raise wanted("magic", cursor.path, "GGUF", magic)
    version = cursor.number("I", "version")
    if version not in (2, 3):
        big = version in (2 << 24, 3 << 24)
        raise wanted("version", cursor.path, "2 or 3, little-endian", "a big-endian file" if big else version)
    return cursor.count(32, "tensors"), cursor.count(13, "metadata pairs")
