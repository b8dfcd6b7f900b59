"""Files that are not trusted: opening and mapping them, parsing their JSON and numbers, quoting their names."""

import json
import math
import mmap
import numbers
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

from ref.errors import BadInput, wanted

LARGEST = 2**63 - 1  # of an integer: what the arrays that it goes into can hold


def quoted(name: object) -> str:
    """Write a name out of a file so that it stays on one line of sane length, whatever it holds."""
    text = ascii(name)
    return text if len(text) <= 100 else text[:97] + "..."


def open_regular(path: Path, what: str = "file", where: object = None, want: str = "a readable file") -> BufferedReader:
    """Open a regular file for reading: a pipe, a socket or a device might never answer, or never end.

    Args:
        path: of the file; links are followed.
        what: what it is called in a refusal.
        where: the flag or file that names it; None is its path.
        want: what was wanted, for a refusal.

    Returns:
        The open file.

    Raises:
        BadInput: it is not there, no regular file, no name of a file, a link to itself, or cannot be read.
    """

    def refuse(got: object) -> BadInput:
        return wanted(what, path if where is None else where, want, got if where is None else f"{got}: {path}")

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise refuse("a folder" if path.is_dir() else "a device or pipe")
        # without waiting, since another could have put a pipe in its place by now
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except BadInput:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise refuse(getattr(error, "strerror", None) or error) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise refuse("another file by now")
    return file


def read_regular(
    path: Path,
    what: str = "file",
    where: object = None,
    want: str = "a readable file",
    most: int | None = None,
) -> bytes:
    """Read a regular file whole.

    Args:
        path, what, where, want: as `open_regular`.
        most: bytes that it may have; None is any number.

    Raises:
        BadInput: as `open_regular`; a larger file.
    """
    shown = path if where is None else where
    with open_regular(path, what, where, want) as file:
        try:
            if most is not None and os.fstat(file.fileno()).st_size > most:
                raise wanted(what, shown, f"at most {most} bytes", f"a larger file: {path}")
            return file.read()
        except OSError as error:
            raise wanted(what, shown, want, error.strerror or error) from None


def map_file(path: Path) -> mmap.mmap:
    """Map a file read-only.

    Args:
        path: of the file.

    Returns:
        The map, as long as the file was when it was opened.

    Raises:
        BadInput: as `open_regular`; it is empty, or cannot be mapped.
    """
    with open_regular(path) as file:
        try:
            if os.fstat(file.fileno()).st_size == 0:
                raise wanted("file", path, "content", "0 bytes")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise wanted("file", path, "a file that can be read", error.strerror or error) from None


def let_go(view: object) -> None:
    """Hand back the memory that a mapped file takes: what is looked at again is read again.

    Args:
        view: an array; one that lies in no mapped file is left alone.
    """
    while view is not None and not isinstance(view, mmap.mmap):
        view = view.obj if isinstance(view, memoryview) else getattr(view, "base", None)
    if view is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        view.madvise(mmap.MADV_DONTNEED)


def is_integer(value: object, least: int = 0, most: int = LARGEST) -> bool:
    """Tell whether a value is an integer in a range: True and 1.0 are none, whatever Python says."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= int(value) <= most


def integer_of(text: str, least: int = 0, most: int = LARGEST) -> int | None:
    """Return the integer that a text spells in the digits 0 to 9; None where it spells none of the range."""
    if not re.fullmatch("-?[0-9]{1,20}", text):  # Python's int also takes _, spaces and the digits of all scripts
        return None
    return int(text) if is_integer(int(text), least, most) else None


def parse_json(text: bytes, path: Path, what: str) -> dict:
    """Parse a JSON object from a file that is not trusted.

    Args:
        text: UTF-8.
        path: for the refusal.
        what: the part of the file, for the refusal.

    Returns:
        The object.

    Raises:
        BadInput: no JSON object, a key twice in one object, NaN, Infinity or 1e999, or nested too deep.
    """
    if text[:1] != b"{":
        raise wanted(what, path, "a JSON object from its first byte on", text[:20])
    try:
        return strict_decoder(path, what).decode(text.decode())
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or an integer of thousands of digits
        raise wanted(what, path, "JSON in UTF-8", error) from None


def strict_decoder(path: Path, what: str) -> json.JSONDecoder:
    """Return a decoder that refuses, with BadInput, a key twice in one object and numbers that are not finite.

    Args:
        path, what: for the refusal.
    """

    def once(pairs):
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for place, key in enumerate(keys) if key in keys[:place])
            raise wanted(what, path, "every key once", f"{quoted(twice)} twice")
        return result

    def refuse(constant):
        raise wanted(what, path, "finite numbers", constant)

    def finite(number):
        return float(number) if math.isfinite(float(number)) else refuse(number)

    return json.JSONDecoder(object_pairs_hook=once, parse_float=finite, parse_constant=refuse)
