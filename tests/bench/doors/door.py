"""What a door is: a stack that runs Gemma 3, how it is captured there, and a mistake that is planted into it."""

from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

from support.dump_page import snippet


class Door(NamedTuple):
    """A stack on the real 270M.

    Args:
        name: what `--only` matches.
        packages: as pip names them, the stack's own first.
        modules: what must be there to be imported.
        install: the versions that were tried, as pip takes them.
        marker: of its snippet in docs/getting-a-dump.md; or its command there, which begins with gemma3-ref.
        mistake: what is planted.
        named: the cause that must be named.
        tap: where it must be found first.
        write: (ids, planted): captures into the folder `dump` of the current one.
    """

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    install: str
    marker: str
    mistake: str
    named: str
    tap: str
    write: Callable[[list[int], bool], None]

    def missing(self) -> str:
        """Name what cannot be imported here; empty where nothing is missing."""
        return ", ".join(one for one in self.modules if not _there(one))

    def versions(self) -> str:
        """Return packages with the versions that are installed here."""
        return ", ".join(f"{one} {metadata.version(one).partition('+')[0]}" for one in self.packages)

    def lines(self) -> int:
        """Count the user's lines; a command is one. To import torch is none: the model is torch's."""
        if self.marker.startswith("gemma3-ref"):
            return 1
        code = [line for line in snippet(self.marker).splitlines() if line.strip()]
        return len([line for line in code if line != "import torch"])


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent
        return False
