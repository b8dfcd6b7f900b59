"""Folders that are being written: held by a lock that ends with the process, so that leftovers are known."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: there a leftover is not told from a folder in use, and is kept
    fcntl = None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder as being written, while the `with` statement lasts and the process lives.

    Args:
        folder: that is there. Where it cannot be locked, as on some network file systems, it is just not held.

    Source: flock(2): the lock is the open file's, and goes with the process however it ends.
    Differs: a process id in the name would be another process's in the next container.
    """
    descriptor = _locked(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_abandoned(folder: Path) -> bool:
    """Tell whether nobody writes to a folder any more that `held` once held."""
    if fcntl is None or folder.is_symlink() or not folder.is_dir():
        return False
    descriptor = _locked(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def _locked(folder: Path) -> int | None:
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
