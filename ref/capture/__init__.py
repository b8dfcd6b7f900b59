"""Captures: run another implementation and write what it computed as a dump. One folder a witness, each an extra.

`capture_module` takes any torch module; `draft_table` drafts the table that it needs. Only here, and only while a
capture runs, may a framework's functions be wrapped; they are restored afterwards.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ref.capture.module import capture_module as capture_module
    from ref.capture.module import draft_table as draft_table

_HOMES = {"capture_module": "ref.capture.module", "draft_table": "ref.capture.module"}


def __getattr__(name: str) -> Any:
    """Load a function on first use: the table of adapters needs nothing of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
