"""Where compiled kernels are kept: beside the sources, in the user's cache, or else in a temporary folder.

Numba finds the first two by itself, and raises a RuntimeError where neither can be written, as in a container that is
read-only and whose user has no home. `import ref` runs this before Numba is loaded, so it imports next to nothing.
"""

import os
import stat
import sys
from contextlib import suppress

SOURCES = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib would slow `import ref` down)
WITH_KERNELS = ("emulate", "measure", "mutants", "ops", "weights")
VARIABLE = "NUMBA_CACHE_DIR"
_given = ""  # the temporary folder, once this process has named one


def provide_kernel_cache() -> None:
    """Name a temporary folder to Numba where it would find no place, and say so on stderr.

    The folder is the user's own, and stays for the next run. Child processes are given it in their environment, which
    is why it is said once.
    """
    if not hasattr(os, "getuid") or os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0") or _numbas_own():
        return
    global _given
    os.environ[VARIABLE] = _given = folder = _temporary()
    if "numba" in sys.modules:  # it has read its environment already
        sys.modules["numba"].config.CACHE_DIR = folder  # type: ignore[attr-defined]
    why = f"no other place can be written ({VARIABLE} sets one)"
    print(f"gemma3-ref: compiled kernels are kept in {folder}: {why}", file=sys.stderr)


def describe_kernel_cache() -> str:
    """Say where kernels are kept, for `doctor`."""
    given = os.environ.get(VARIABLE)
    if given and given == _given:
        return f"{given} (temporary: no other place can be written)"
    return f"{given} ({VARIABLE})" if given else _numbas_own() or "nowhere"


def _numbas_own() -> str:
    """Return the place that Numba will find, in words; empty where there is none. It asks for them in this order."""
    given = os.environ.get(VARIABLE)
    if given and _writable(given):
        return given
    if all(_writable(os.path.join(SOURCES, folder, "__pycache__")) for folder in WITH_KERNELS):  # noqa: PTH118
        return "beside the sources (__pycache__)"
    user = _user_cache()
    return user if _writable(user) else ""


def _user_cache() -> str:
    """Return the user's cache as Numba names it (`numba.misc.appdirs`)."""
    home = os.path.expanduser("~")  # noqa: PTH111
    if sys.platform == "darwin":
        return f"{home}/Library/Caches/numba"
    return f"{os.environ.get('XDG_CACHE_HOME', f'{home}/.cache')}/numba"


def _writable(folder: str) -> bool:
    """Say whether files can be made in a folder, which may itself still have to be made."""
    while not os.path.lexists(folder) and os.path.dirname(folder) not in ("", folder):  # noqa: PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)  # noqa: PTH112


def _temporary() -> str:
    """Return a folder that nobody else can write to: compiled code is loaded from it and run.

    It has the same name each time, unless somebody else has taken that name: then one of this process alone.
    """
    import atexit
    import shutil
    import tempfile

    folder = os.path.join(tempfile.gettempdir(), f"gemma3-ref-kernels-{os.getuid()}")  # noqa: PTH118
    with suppress(OSError):  # it is there, or cannot be made
        os.mkdir(folder, 0o700)  # noqa: PTH102
    with suppress(OSError):
        found = os.lstat(folder)  # not through a link, which could be changed
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
    folder = tempfile.mkdtemp(prefix="gemma3-ref-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
