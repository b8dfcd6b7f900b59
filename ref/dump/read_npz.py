"""NumPy's .npz archives, bounded: what a member claims is checked before anything is decompressed.

    a zip file of members NAME.npy, each: magic, version, header (dtype, order, shape), values

Stored members (`numpy.savez`) are views of the mapped file, copied where they lie askew; deflated ones
(`savez_compressed`) are decompressed when they are asked for. Nothing is ever unpickled.
"""

import math
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from ref.dump.align import Raw
from ref.dump.read_arrays import check_kind, judged, judged_dtype
from ref.errors import wanted
from ref.untrusted import is_integer, map_file, quoted

MOST_MEMBERS = 100_000
MOST_BYTES = 64 * 2**30  # of all members, decompressed
MOST_RATIO = 200  # decompressed to compressed; of values that are not made up, less than 10 is usual
FREE_BYTES = 2**20  # that a member may decompress to whatever its ratio
KEPT_BYTES = 256 * 2**20  # of decompressed members, kept for the next time that they are asked for
LONGEST_HEADER = 10_000
NOT_A_HEADER = (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, RecursionError)
NOT_A_HEADER += (
    SyntaxError,
    TokenError,
    MemoryError,
    OSError,
)  # NumPy parses it as Python; nested too deep is no memory
PIECE = 2**18  # bytes that are decompressed at a time
BFLOAT16 = np.dtype("V2")  # what NumPy makes of ml_dtypes' bfloat16 when it writes it


class _Npz:
    """An archive whose directory has been checked."""

    def __init__(self, path: Path):
        self.path, self.data = path, map_file(path)
        self.kept: dict[str, np.ndarray] = {}
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise wanted("archive", path, "a whole .npz file", error) from None
        self.members = {one.filename.removesuffix(".npy"): one for one in self.zip.infolist()}
        self._check_directory()

    def _check_directory(self) -> None:
        every = self.zip.infolist()
        if len(every) > MOST_MEMBERS:
            raise wanted("members", self.path, f"at most {MOST_MEMBERS}", len(every))
        twice = next((name for name, count in Counter(one.filename for one in every).items() if count > 1), None)
        if twice is not None:
            raise wanted("members", self.path, "every name once", f"{quoted(twice)} twice")
        for one in every:
            self._check_member(one)
        total = sum(one.file_size for one in every)
        if total > MOST_BYTES:
            raise wanted("members", self.path, f"at most {MOST_BYTES} bytes decompressed", total)

    def _check_member(self, one: zipfile.ZipInfo) -> None:
        what = f"member {quoted(one.filename)}"
        if not one.filename.endswith(".npy") or one.filename == ".npy":
            got = "a pickle, which runs code when it is loaded" if "pkl" in one.filename else "another file or folder"
            raise wanted(what, self.path, "a NAME.npy", got)
        if one.flag_bits & 1:
            raise wanted(what, self.path, "no encryption", "an encrypted member")
        if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise wanted(f"compression of {what}", self.path, "none or deflate", one.compress_type)
        if one.file_size > max(FREE_BYTES, MOST_RATIO * one.compress_size):
            want = f"at most {MOST_RATIO} times its {one.compress_size} compressed bytes"
            raise wanted(f"size of {what}", self.path, want, f"{one.file_size} bytes")

    def raw(self, name: str) -> Raw:
        """Read a member's header and return the tensor, of which nothing else has been read."""
        one = self.members[name]
        what = f"member {quoted(one.filename)}"
        with self._opened(one, what) as file:
            shape, fortran, dtype, start = self._header(file, what)
        size = math.prod(shape) * dtype.itemsize
        if start + size != one.file_size:
            got = f"{one.file_size - start} of them"
            raise wanted(f"size of {what}", self.path, f"{size} bytes of values, as its header says", got)
        stored = "bfloat16" if dtype == BFLOAT16 else dtype.name
        bits = np.dtype("<u2") if dtype == BFLOAT16 else dtype

        def read() -> np.ndarray:
            flat = self._flat(one, what, start, bits, size)
            return judged(flat.reshape(shape, order="F" if fortran else "C"), stored)

        return Raw(judged_dtype(stored), shape, read)

    def _opened(self, one: zipfile.ZipInfo, what: str):
        try:
            return self.zip.open(one)
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError) as error:  # names of no UTF-8 too
            raise wanted(what, self.path, "a member that can be read", error) from None

    def _header(self, file, what: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
        try:
            version = npy.read_magic(file)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            with warnings.catch_warnings():  # of what Python or NumPy find odd about a header: it is read, or refused
                warnings.simplefilter("ignore")
                shape, fortran, dtype = read(file, max_header_size=LONGEST_HEADER)
            start = file.tell()
        except KeyError:
            raise wanted(f"version of {what}", self.path, "1.0 or 2.0", "another") from None
        except NOT_A_HEADER as error:
            raise wanted(f"header of {what}", self.path, "a .npy header", error) from None
        if dtype != BFLOAT16:
            check_kind(dtype, what, self.path)
        if not all(is_integer(length) for length in shape) or math.prod(shape) >= 2**60:
            raise wanted(f"shape of {what}", self.path, "lengths of at least 0", shape)
        return shape, fortran, dtype, start

    def _flat(self, one: zipfile.ZipInfo, what: str, start: int, dtype: np.dtype, size: int) -> np.ndarray:
        if size == 0:
            return np.empty(0, dtype)
        if one.compress_type == zipfile.ZIP_STORED:
            view = np.frombuffer(self.data, dtype, size // dtype.itemsize, self._place(one, what) + start)
            return np.require(view, requirements="A")
        if one.filename not in self.kept:
            return self._keep(one.filename, self._decompressed(one, what, start, size).view(dtype))
        return self.kept[one.filename]

    def _decompressed(self, one: zipfile.ZipInfo, what: str, start: int, size: int) -> np.ndarray:
        """Decompress the values of a member piece by piece into memory of the size that its header says."""
        out, done = np.empty(size, np.uint8), 0
        try:
            with self._opened(one, what) as file:
                file.read(start)
                while piece := file.read(PIECE):
                    out[done : done + len(piece)] = np.frombuffer(piece, np.uint8)[: size - done]
                    done += len(piece)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise wanted(what, self.path, "a whole member", error) from None
        if done != size:
            raise wanted(what, self.path, f"{size} bytes of values", done)
        return out

    def _keep(self, name: str, value: np.ndarray) -> np.ndarray:
        if value.nbytes <= KEPT_BYTES:
            while sum(one.nbytes for one in self.kept.values()) + value.nbytes > KEPT_BYTES:
                self.kept.pop(next(iter(self.kept)))
            self.kept[name] = value
        return value

    def _place(self, one: zipfile.ZipInfo, what: str) -> int:
        """Return where a stored member's bytes begin: behind its own header, whose lengths are its own too."""
        head = self.data[one.header_offset : one.header_offset + 30]
        lengths = struct.unpack("<HH", head[26:30]) if len(head) == 30 and head[:4] == b"PK\x03\x04" else (0, 0)
        start = one.header_offset + 30 + sum(lengths)
        if not sum(lengths) or one.file_size != one.compress_size or start + one.file_size > len(self.data):
            raise wanted(what, self.path, "a member inside the file", "one that reaches out of it")
        return start


def read_npz(path: Path) -> dict[str, Raw]:
    """List the tensors of a .npz file; their values are read when they are asked for.

    Args:
        path: of the file.

    Returns:
        Name -> tensor. bfloat16 that NumPy wrote as raw bytes of two (`|V2`) is bfloat16 again.

    Raises:
        BadInput: no archive, cut short, a name twice, a member that is no array of numbers, encrypted, that claims to
            be larger than its bytes can be, or of another size than its header says.

    Source: PKWARE APPNOTE 6.3.10, 4.3; NumPy `numpy.lib.format`.
    Differs: `numpy.load` decompresses whatever a member claims to be, and takes the last of two equal names.
    """
    archive = _Npz(path)
    return {name: archive.raw(name) for name in archive.members}
