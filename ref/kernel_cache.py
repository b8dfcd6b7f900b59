"""Where compiled kernels are kept: one folder for each state of their sources, in the user's cache.

Numba keeps a function's machine code as long as the function's own file stays the same. What it calls is compiled into
it, so an edit of a function in another file would not be seen. Here every source that holds kernels counts for all.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).parent
WITH_KERNELS = ("emulate", "measure", "mutants", "ops", "weights")
VARIABLES = ("NUMBA_CACHE_DIR", "GEMMA3_REF_CACHE")
KEPT = 6  # states: of several Pythons, or of an edit that is taken back
_COMPILES = re.compile(rb"^(from|import) (numba|ref\.ops\.jit)\b", re.MULTILINE)
_KEY = re.compile("[0-9a-f]{16}")


class Place(NamedTuple):
    """A folder that kernels may go to, and what to say of it."""

    path: Path
    words: str
    said: bool = False  # on stderr, when the first kernel goes there


def kernel_sources() -> dict[str, bytes]:
    """Return the content of each file that compiled code depends on, by its name within `ref`, in a fixed order."""
    paths = (path for folder in WITH_KERNELS for path in sorted((SOURCES / folder).glob("*.py")))
    contents = {path.relative_to(SOURCES).as_posix(): path.read_bytes() for path in paths}
    return {path: content for path, content in contents.items() if _COMPILES.search(content)}


@cache
def hash_sources() -> str:
    """Return one hash of all sources that hold kernels."""
    parts = sha256()
    for path, content in kernel_sources().items():
        parts.update(f"{path} {len(content)}\n".encode() + content)
    return parts.hexdigest()


def kernel_folder(machine: object) -> Path:
    """Return the folder of the kernels as they are now, made if need be; what has long not been used is removed.

    Args:
        machine: all that machine code depends on beside the sources; its `repr` counts.

    Raises:
        OSError: no place can be written, not even a temporary one.
    """
    key = sha256(f"{hash_sources()} {machine!r}".encode()).hexdigest()[:16]
    for place in _places():
        with suppress(OSError):
            folder = place.path / key
            if not folder.is_dir():
                _make(folder, place)
            if os.access(folder, os.W_OK | os.X_OK):
                os.utime(folder)  # so that the newest are those used last
                return folder
    raise OSError("kernels: no folder can be written")


def describe_kernel_cache() -> str:
    """Say where kernels are kept, for `doctor`."""
    place = next((place for place in _places() if _writable(place.path)), None)
    return f"{place.path}{place.words}" if place else "nowhere"


def _make(folder: Path, place: Place) -> None:
    folder.mkdir(0o700, parents=True, exist_ok=True)
    if place.said:
        why = f"no other place can be written ({VARIABLES[0]} sets one)"
        print(f"gemma3-ref: compiled kernels are kept in {place.path}: {why}", file=sys.stderr)
    _remove_old(place.path)


def _remove_old(base: Path) -> None:
    """Keep the states used last. A process that runs on an older one compiles again what it has not loaded yet."""
    import shutil

    with suppress(OSError):
        states = [path for path in base.iterdir() if _KEY.fullmatch(path.name)]
        for path in sorted(states, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)


def _places() -> Iterator[Place]:
    """Go through the places, the best first."""
    for name in VARIABLES:
        if given := os.environ.get(name):
            yield Place(Path(given) / ("gemma3-ref" if name == VARIABLES[0] else "kernels"), f" ({name})")
    with suppress(RuntimeError):  # a user without a home
        yield Place(_user_cache() / "gemma3-ref" / "kernels", "")
    with suppress(OSError):
        yield Place(_temporary(), " (temporary: no other place can be written)", said=True)


def _user_cache() -> Path:
    """Return the folder that the system gives to what can be made again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _writable(folder: Path) -> bool:
    """Say whether files can be made in a folder, which may itself still have to be made."""
    while not os.path.lexists(folder) and folder.parent != folder:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


@cache
def _temporary() -> Path:
    """Return a folder that nobody else can write to: compiled code is loaded from it and run.

    It has the same name each time, unless somebody else has taken that name: then one of this process alone.
    """
    import atexit
    import shutil
    import tempfile

    if hasattr(os, "getuid"):  # Windows gives each user a temporary folder of their own
        folder = Path(tempfile.gettempdir()) / f"gemma3-ref-kernels-{os.getuid()}"
        with suppress(OSError):  # it is there, or cannot be made
            folder.mkdir(0o700)
        with suppress(OSError):
            found = folder.lstat()  # not through a link, which could be changed
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                return folder
    folder = Path(tempfile.mkdtemp(prefix="gemma3-ref-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
