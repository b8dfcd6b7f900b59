"""An output folder that is filled as a whole, or left as it was."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from ref.errors import BadInput, wanted

LAST = "config.json"  # moved last: without it no reader takes a folder for a checkpoint


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """Give a place to write files to, which all go to the folder at the end of the `with` statement.

    The place lies inside the folder: then the folder may be the current one, a mount point or a link, and its parent
    need not be writable. After an error nothing that was made here is left.

    Args:
        folder: new or empty; links are followed, missing parents are made.

    Raises:
        BadInput: something in the folder or in its way, no such place, no room.

    Source: own.
    Differs: `ref.verify.dump` writes beside the folder and gives it its name at the end.
    """
    with ExitStack() as undo:  # last made, first removed
        target, part = _prepare(folder, undo)
        try:
            yield part
            for file in sorted(part.iterdir(), key=lambda file: file.name == LAST):
                undo.callback(file.rename(target / file.name).unlink)
            part.rmdir()
        except OSError as error:
            raise wanted("folder", folder, "room to write", error.strerror or error) from None
        undo.pop_all()


def _prepare(folder: Path, undo: ExitStack) -> tuple[Path, Path]:
    """Make what is missing of a folder and a place in it; return both."""
    try:
        target = folder.resolve()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise wanted("folder", folder, "an empty or new one", "files in it" if target.is_dir() else "a file")
        for missing in reversed([one for one in (target, *target.parents) if not one.exists()]):
            missing.mkdir()
            undo.callback(_remove, missing)
        part = Path(mkdtemp(prefix=".part-", dir=target))
    except BadInput:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a NUL
        raise wanted("folder", folder, "one that can be made", getattr(error, "strerror", None) or error) from None
    undo.callback(shutil.rmtree, part, ignore_errors=True)
    return target, part


def _remove(made: Path) -> None:
    with suppress(OSError):  # somebody else's files are in it by now
        made.rmdir()
