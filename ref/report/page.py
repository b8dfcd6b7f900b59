"""Pages that need no network: a template with its style, its script, plotly.js and the data, all in one file."""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ref.errors import BadInput, pip_install, wanted

MOST_BYTES = 8_000_000  # of a page; plotly.js is 4.8 million of them


FRAME = Path(__file__).parent / "page_frame.html"


def assemble(
    title: str,
    folder: Path,
    stem: str,
    fill: dict[str, str],
    data: Callable[[int], str],
    *,
    style_of: str | None = None,
    draws: bool = True,
) -> str:
    """Put a page together: what one sees in the frame that all pages share, which lets nothing be loaded or run.

    Args:
        title: of the page.
        folder: where `{stem}.html`, `.css` and `{stem}*.js` lie; the scripts are one, in the order of their names.
        stem: of their names.
        fill: what stands in the place of each `@@NAME@@` of the template, besides the frame's own.
        data: called with the bytes that are left for it; returns JSON as `as_json` writes it.
        style_of: the stem of a page whose style stands before this one's own.
        draws: whether plotly.js is needed.

    Raises:
        BadInput: plotly is not installed.
    """
    parts = {name: (folder / f"{stem}.{name}").read_text(encoding="utf-8") for name in ("html", "css")}
    style = (folder / f"{style_of}.css").read_text(encoding="utf-8") if style_of else ""
    script = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob(f"{stem}*.js")))
    template = FRAME.read_text(encoding="utf-8").replace("@@BODY@@", parts["html"])
    fill = fill | {
        "TITLE": title,
        "CSS": style + parts["css"],
        "JS": f'"use strict";\n(async () => {{\n{script}}})();\n',
        "PLOTLY": plotly_js() if draws else "",
    }
    hashes = (base64.b64encode(hashlib.sha256(fill[name].encode()).digest()).decode() for name in ("PLOTLY", "JS"))
    fill["SCRIPTS"] = " ".join(f"'sha256-{digest}'" for digest in hashes)  # no other script may run
    fill["DATA"] = data(MOST_BYTES - sum(len(text.encode()) for text in (template, *fill.values())))
    # split, not replaced one after the other: a text that holds a mark of the template stays as it is
    pieces = template.split("@@")
    return "".join(piece if i % 2 == 0 else fill[piece] for i, piece in enumerate(pieces))


def plotly_js() -> str:
    """Return plotly.js.

    Raises:
        BadInput: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise wanted("plotly", "HTML page", pip_install("report"), "no such package") from None
    return get_plotlyjs()


def as_json(content: Any) -> str:
    """Write JSON without `<`, `>` or `&`, so that no text in it can end the element it stands in."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write_page(path: str | Path, page: str) -> Path:
    """Write a page under a temporary name first, then rename it.

    Args:
        path: where.
        page: its text.

    Returns:
        The path.

    Raises:
        BadInput: the file cannot be written.
    """
    return _write(path, lambda new: new.write_bytes(page.encode()))


def write_pieces(path: str | Path, pieces: Iterable[str]) -> Path:
    """Write a text that comes in pieces, as `write_page` does.

    Args:
        path: where.
        pieces: of the text, one after the other; they need not be in memory together.

    Returns:
        The path.

    Raises:
        BadInput: the file cannot be written.
    """

    def write(new: Path) -> None:
        with new.open("wb") as file:
            file.writelines(piece.encode() for piece in pieces)

    return _write(path, write)


def _write(path: str | Path, write: Callable[[Path], Any]) -> Path:
    path = check_target(Path(path))
    new = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(new)
        new.replace(path)
    except OSError as error:
        raise wanted("output file", path, "a place that can be written", error.strerror) from None
    finally:
        if new.is_file():
            new.unlink()
    return path


def check_target(path: Path) -> Path:
    """Return a path that a page can be written to, or refuse it: before the work whose result it would hold.

    Args:
        path: where. A file is made beside it and removed, since only that tells what may be written.

    Raises:
        BadInput: it is a folder or device, or its folder is not there or cannot be written to.
    """
    try:
        if not path.name or (path.exists() and not path.is_file()):
            raise wanted("output file", path, "a name for a file", "a folder or device")
        if not path.parent.is_dir():
            raise wanted("output file", path, "a place that can be written", "no such folder")
        trial = path.with_name(f"{path.name}.{os.getpid()}.part")
        trial.touch()
        trial.unlink()
    except (OSError, ValueError) as error:  # ValueError: a refusal above, or a NUL in the name
        if isinstance(error, BadInput):
            raise
        got = getattr(error, "strerror", None) or error
        raise wanted("output file", path, "a place that can be written", got) from None
    return path
