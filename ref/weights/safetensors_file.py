"""Safetensors files: a bounded reader over a memory map. `weights/shards` reads folders of them.

    length of the header u64, header (JSON: name -> dtype, shape, data_offsets), data

A file can claim anything. Each claim is checked before it is used: the tensors must tile the data without
hole or overlap, and a name may stand once. GGUF files and the two classes here answer the same questions:
`names()`, `info(name)`, `shape(name)`, `type(name)`, `array(name)`.
"""

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ref.errors import wanted
from ref.untrusted import is_integer, map_file, parse_json, quoted

# BF16 as its bits: NumPy has no such type
# fmt: off
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|b1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}
# fmt: on
LONGEST_HEADER = 100_000_000  # the limit of the format's own library


class TensorInfo(NamedTuple):
    """Where a tensor lies: half-open range of bytes, counted from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def _check_numbers(field: str, value, what: str, path: Path):
    good = isinstance(value, list) and all(is_integer(number) for number in value)
    if not good or len(value) > 32:  # NumPy knows no more axes everywhere
        raise wanted(f"{field} of {what}", path, "a list of at most 32 integers, each 0 <= n < 2^63", value)


def _read_entry(name: str, entry: object, base: int, path: Path) -> TensorInfo:
    what = f"tensor {quoted(name)}"
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or set(entry) != keys:
        raise wanted(what, path, "an object of dtype, shape and data_offsets", entry)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise wanted(f"dtype of {what}", path, " ".join(DTYPES), quoted(dtype))
    _check_numbers("shape", shape, what, path)
    _check_numbers("data_offsets", offsets, what, path)
    # zeros left out: NumPy refuses [0, 2^62] although it is empty
    if math.prod(max(number, 1) for number in shape) >= 2**60:
        raise wanted(f"shape of {what}", path, "a product below 2^60", shape)
    size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise wanted(f"data_offsets of {what}", path, f"[begin, begin + {size}]", offsets)
    return TensorInfo(dtype, tuple(shape), base + offsets[0], base + offsets[1])


def _check_tiling(tensors: dict[str, TensorInfo], base: int, end: int, path: Path):
    free = base
    for name, info in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if info.start != free:
            want = f"{free - base}, no hole and no overlap"
            raise wanted(f"begin of tensor {quoted(name)}", path, want, info.start - base)
        free = info.stop
    if free != end:
        raise wanted("data", path, f"{free - base} bytes, as the header says", f"{end - base} bytes")


class SafetensorsFile:
    """An open file: `tensors` by name, and views of their data. The map closes with the last view."""

    def __init__(self, path: Path, data, tensors: dict[str, TensorInfo]):
        self.path, self.tensors, self._data = path, tensors, data

    def names(self) -> list[str]:
        """Return the names of all tensors, in the order of the header."""
        return list(self.tensors)

    def info(self, name: str) -> TensorInfo:
        """Return where a tensor lies; BadInput if the file has none of this name."""
        if name not in self.tensors:
            raise wanted(f"tensor {quoted(name)}", self.path, "a tensor of this file", "no such name")
        return self.tensors[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.info(name).shape

    def type(self, name: str) -> str:
        """Return the name of a tensor's dtype, as F32 or BF16."""
        return self.info(name).dtype

    def has(self, name: str) -> bool:
        """Tell whether the file has a tensor of this name."""
        return name in self.tensors

    def raw(self, name: str) -> bytes:
        """Return a tensor's bytes as they lie in the file."""
        return self._data[self.info(name).start : self.info(name).stop]

    def array(self, name: str) -> np.ndarray:
        """Return a tensor as a read-only view of the file.

        Args:
            name: of the tensor.

        Returns:
            The array; BF16 as uint16 bits. Copied only where the file does not align it to its item size.

        Raises:
            BadInput: no such tensor, or a BOOL of a byte that is neither 0 nor 1.
        """
        info = self.info(name)
        count = math.prod(info.shape)
        if info.dtype == "BOOL" and count and np.frombuffer(self._data, np.uint8, count, info.start).max() > 1:
            raise wanted(f"tensor {quoted(name)}", self.path, "BOOL bytes 0 or 1", "others")
        if count == 0:  # an empty tensor at the end of the file starts where there is no byte to view
            return np.empty(info.shape, DTYPES[info.dtype])
        view = np.frombuffer(self._data, DTYPES[info.dtype], count, info.start).reshape(info.shape)
        return np.require(view, requirements="A")


def open_safetensors(path: str | Path) -> SafetensorsFile:
    """Open a safetensors file and check its whole header.

    Args:
        path: of the file.

    Returns:
        The file: tensors by name.

    Raises:
        BadInput: truncated, no such header, or contradicting itself; the line names the field.

    Source: the format's README; its library's checks, plus duplicate keys.
    Differs: safetensors 0.8.0 takes the last of two equal names and lets a header begin with spaces.
    """
    path = Path(path)
    data = map_file(path)
    if len(data) < 8:
        raise wanted("header length", path, "8 bytes", f"a file of {len(data)} bytes")
    length = struct.unpack_from("<Q", data)[0]
    most = min(LONGEST_HEADER, len(data) - 8)
    if length > most:
        raise wanted("header length", path, f"at most {most}", length)
    header = parse_json(data[8 : 8 + length], path, "header")
    notes = header.pop("__metadata__", None)  # MLX writes null, and the format's library takes it
    notes = {} if notes is None else notes
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise wanted("__metadata__", path, "an object of strings", notes)
    tensors = {name: _read_entry(name, entry, 8 + length, path) for name, entry in header.items()}
    _check_tiling(tensors, 8 + length, len(data), path)
    return SafetensorsFile(path, data, tensors)
