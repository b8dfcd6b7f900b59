"""Files that are not trusted: mapping them, parsing their JSON, quoting their names."""

import json
import mmap
from pathlib import Path

from ref.errors import BadInput, wanted


def quoted(name: object) -> str:
    """Write a name out of a file so that it stays on one line of sane length, whatever it holds."""
    text = ascii(name)
    return text if len(text) <= 100 else text[:97] + "..."


def map_file(path: Path) -> mmap.mmap:
    """Map a file read-only.

    Args:
        path: of the file.

    Returns:
        The map, as long as the file was when it was opened.

    Raises:
        BadInput: it cannot be opened, is no regular file, or is empty.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            got = "a folder or device" if path.exists() else "nothing there"
            raise wanted("file", path, "a regular file", got)
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise wanted("file", path, "content", "0 bytes")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise wanted("file", path, "a file that can be read", error.strerror or error) from None


def parse_json(text: bytes, path: Path, what: str) -> dict:
    """Parse a JSON object from a file that is not trusted.

    Args:
        text: UTF-8.
        path: for the refusal.
        what: the part of the file, for the refusal.

    Returns:
        The object.

    Raises:
        BadInput: no JSON object, a key twice in one object, NaN or Infinity, or nested too deep.
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

    if text[:1] != b"{":
        raise wanted(what, path, "a JSON object from its first byte on", text[:20])
    try:
        return json.loads(text.decode(), object_pairs_hook=once, parse_constant=refuse)
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or an integer of thousands of digits
        raise wanted(what, path, "JSON in UTF-8", error) from None
