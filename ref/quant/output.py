"""An output folder that is filled as a whole, or left as it was."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from ref.errors import BadInput, wanted
from ref.weights.unfinished import held, is_abandoned

PART = ".part-"
LAST = "config.json"  # moved last: without it no reader takes a folder for a checkpoint


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """Give a place to write files to, which all go to the folder at the end of the `with` statement.

    The place lies inside the folder: then the folder may be the current one, a mount point or a link, and its parent
    need not be writable. After an error nothing that was made here is left; what a killed process left is removed.

    Args:
        folder: new or empty; links are followed, missing parents are made.

    Raises:
        BadInput: something in the folder or in its way, another run that writes there, no such place, no room.

    Differs: `ref.dump.write` writes beside the folder and gives it its name at the end.
    """
    with ExitStack() as undo:  # last made, first removed
        target, part = _prepare(folder, undo)
        try:
            with held(part):
                _check_alone(target, part, folder)
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
        if target.exists() and not target.is_dir():
            raise wanted("folder", folder, "an empty or new one", "a file")
        if target.exists():
            _clear(target, folder)
        for missing in reversed([one for one in (target, *target.parents) if not one.exists()]):
            missing.mkdir()
            undo.callback(_remove, missing)
        part = Path(mkdtemp(prefix=PART, dir=target))
    except BadInput:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a NUL
        raise wanted("folder", folder, "one that can be made", getattr(error, "strerror", None) or error) from None
    undo.callback(shutil.rmtree, part, ignore_errors=True)
    return target, part


def _clear(target: Path, folder: Path) -> None:
    """Remove what a process left that was killed; refuse anything else."""
    for one in target.iterdir():
        if not (one.name.startswith(PART) and is_abandoned(one)):
            raise wanted("folder", folder, "an empty or new one", _what(one))
        shutil.rmtree(one)


def _check_alone(target: Path, part: Path, folder: Path) -> None:
    """Refuse a folder that another run has begun to write to since it was looked at."""
    other = next((one for one in target.iterdir() if one != part), None)
    if other is not None:
        raise wanted("folder", folder, "an empty or new one", _what(other))


def _what(found: Path) -> str:
    return "another run that is writing there" if found.name.startswith(PART) else "files in it"


def _remove(made: Path) -> None:
    with suppress(OSError):  # somebody else's files are in it by now
        made.rmdir()
