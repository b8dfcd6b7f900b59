"""`compare --next DIR`: the prompts that would decide, as files, and how to capture them."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ref.errors import wanted

if TYPE_CHECKING:
    from ref.judge.next_prompt import PlannedPrompt

PATCHED = """\
The commands run a released implementation on weights. A model that was patched in Python is captured by
ref.capture.transformers.capture(model, ids, DIR, taps=[...]), whose arguments are those of the prompt file. A port
without an adapter runs the ids of the prompt file itself, and writes the taps as docs/taps.md says.
"""


def check_next(folder: Path) -> None:
    """Refuse a place that cannot be made, or has something in it, before anything is judged.

    Raises:
        BadInput: a file, a folder that is not empty, or one that cannot be looked into.
    """
    try:
        in_use = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise wanted("--next", folder, "an empty or new folder", error.strerror) from None
    if in_use:
        raise wanted("--next", folder, "an empty or new folder", "something in the way")


def write_next(folder: Path, report: Mapping[str, Any], prompts: "Mapping[str, PlannedPrompt]") -> None:
    """Write README.txt, the prompts and their images into a folder that takes its name when it is complete.

    Args:
        folder: empty or new.
        report: whose `next` it is.
        prompts: by file name.

    Raises:
        BadInput: the folder cannot be made, or has something in it by now.
    """
    check_next(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise wanted("--next", folder, "a place that can be written", error.strerror) from None
    try:
        new.chmod(0o755)
        for name, planned in prompts.items():
            _write_prompt(new, name, planned)
        (new / "README.txt").write_text(readme(report), encoding="utf-8")
        new.replace(folder)
    except OSError as error:
        raise wanted("--next", folder, "a place that can be written", error.strerror) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write_prompt(folder: Path, name: str, planned: "PlannedPrompt") -> None:
    from PIL import Image

    for path, picture in zip(planned.prompt.images, planned.pictures, strict=True):
        Image.fromarray(picture).save(folder / path.name, "PNG")
    (folder / name).write_text(json.dumps(planned.prompt.as_json()) + "\n", encoding="utf-8")


def readme(report: Mapping[str, Any]) -> str:
    """Say what to capture next, and how: each reason, its file and its command."""
    lines = ["What to capture next, so that the judge can say more.", ""]
    for number, one in enumerate(report["next"], 1):
        lines.append(f"{number}. {one['why']}")
        lines += [f"   prompt: {one['prompt']}"] * bool(one["prompt"])
        lines += ["", f"   {one['command']}"] * bool(one["command"])
        lines.append("")
    return "\n".join([*lines, PATCHED])
