"""Which dumps a folder holds, and what dumps are called among others."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

FILES = (".npz", ".safetensors")  # that are taken for dumps in a folder; others are named one by one
ENDINGS = (*FILES, ".json", ".txt", ".log", ".out", ".bin")  # that are no part of a dump's name


def is_folder_of_dumps(path: Path) -> bool:
    """Tell whether a path is a folder that is no dump itself, nor the ranks of one."""
    try:
        return path.is_dir() and not (path / "dump.json").exists() and not _has_ranks(path)
    except (OSError, ValueError):  # no name that can be
        return False


def dumps_in(folder: Path, more: Sequence[str] = ()) -> list[Path]:
    """List the dumps in a folder and in those inside it, by name; links to folders are not followed.

    Args:
        folder: where.
        more: endings of files that are wanted besides: `.json` of saved reports.

    Returns:
        Folders with a `dump.json` or with those of ranks, and files .npz and .safetensors outside of them and of
        folders of weights.
    """
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        if "dump.json" in files or _has_ranks(Path(here)):
            found.append(Path(here))
            folders.clear()
            continue
        folders.sort()
        if "config.json" in files:  # shards of weights
            continue
        found += [Path(here, name) for name in files if name.lower().endswith((*FILES, *more))]
    return sorted(found)


def _has_ranks(folder: Path) -> bool:
    """Tell whether a folder holds the ranks of one dump."""
    from ref.dump.rank_folders import is_folder_of_ranks  # loads NumPy: the command line is read before it is needed

    return is_folder_of_ranks(folder)


def names_of(paths: Sequence[Path], below: Path | None = None) -> list[str]:
    """Name dumps: by their path below the folder that they share, without their files' ending.

        today/en/p1, today/de/p1.npz -> en/p1, de/p1

    Args:
        paths: of the dumps.
        below: the folder; None finds it.

    Returns:
        A name each, no two alike: the second `p1` is `p1#2`. What differs in nothing but its ending keeps that.
    """
    absolute = [_absolute(path) for path in paths]
    root = _absolute(below) if below else _shared([one.parent for one in absolute])
    whole = [os.path.relpath(one, root).replace(os.sep, "/") if root else one.as_posix() for one in absolute]
    short = [_stem(name) for name in whole]
    alike = Counter(name for _, name in set(zip(whole, short, strict=True)))
    names, seen = [], Counter[str]()
    for long, name in zip(whole, short, strict=True):
        name = name if alike[name] == 1 else long
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _absolute(path: Path) -> Path:
    """Return a path from the root, without following links: they have the name that they were given."""
    return Path(os.path.normpath(path.absolute()))


def _stem(name: str) -> str:
    ending = next((one for one in ENDINGS if name.lower().endswith(one) and len(name) > len(one)), "")
    return name[: len(name) - len(ending)]


def _shared(folders: list[Path]) -> Path | None:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # drives of Windows that have nothing in common
        return None
