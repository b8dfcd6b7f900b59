"""Writing one file: under a temporary name, then renamed, so that nobody meets half of it; and what a dump holds."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ref.errors import BadInput, wanted


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary name in the same folder, then give the file its own name.

    Args:
        path: where the file will be; replaced if it is a regular file.
        write: writes the file it is given the name of.

    Raises:
        BadInput: the place is a folder or device, or cannot be written.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():
            raise wanted("output file", path, "a name for a file", "a folder or device")
        write(new)
        new.replace(path)
    except BadInput:
        raise
    except Exception as error:  # Pillow and safetensors have their own exceptions, for a full disk too
        got = getattr(error, "strerror", None) or error
        raise wanted("output file", path, "a place that can be written", got) from None
    finally:
        with suppress(OSError):  # where the name cannot be, there is nothing either
            new.unlink(missing_ok=True)


def refuse_overwriting(source: str, out: Path) -> None:
    """Refuse to write over a file that is read.

    Args:
        source: path of what is read.
        out: path to be written.

    Raises:
        BadInput: both are the same file.
    """
    with suppress(OSError):  # a name that cannot be is refused when it is written to
        if out.exists() and Path(source).exists() and out.samefile(source):
            raise wanted("output file", out, "another file than what is read", "the same")


def report_written(kind: str, folder: Path, shown: Path, as_json: bool, more: dict[str, Any] | None = None) -> None:
    """Say what a dump that was written holds: its passes, how many tensors and bytes.

    Args:
        kind: the command that wrote it.
        folder: of the dump; absolute, since a new folder may have taken the place of the one we stand in.
        shown: its name as it was given.
        as_json: one JSON document on stdout, else a line on stderr.
        more: what the document says besides.
    """
    from ref.commands.shared import note, print_json
    from ref.dump.write import read_dump
    from ref.golden_files.report_format import headed

    passes = read_dump(folder)["passes"]
    content = {
        "passes": [{"ids": len(one["ids"]), "cached": one["cached"]} for one in passes],
        "tensors": sum(len(one["tensors"]) for one in passes),
        "bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
    }
    if as_json:
        print_json(headed(kind, content | (more or {})))
    else:
        note(f"{shown}: {len(passes)} passes, {content['tensors']} tensors, {content['bytes'] / 1e6:.1f} MB")
