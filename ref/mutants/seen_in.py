"""Where each mistake was really made: public threads, commits and files, each looked up and read.

The table is seen_in.json beside this file. A mistake without an entry is plausible and was not seen yet.
"""

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple


class Sighting(NamedTuple):
    """One place where a mistake was made or mended."""

    where: str  # owner/name#12 for a thread, owner/name@commit for a commit, owner/name@tag:path for a file
    url: str
    what: str  # one sentence: who made it, and how it showed
    model: str
    # "another model": the same mistake in a port of another one; "convention": right there, wrong in a port of others
    same: Literal["exact", "another model", "convention"]


@cache
def sightings() -> dict[str, tuple[Sighting, ...]]:
    """Return the table.

    Returns:
        name of a mistake -> where it was seen, the best first. Mistakes that were not seen yet are left out.
    """
    table = json.loads(files("ref.mutants").joinpath("seen_in.json").read_text(encoding="utf-8"))
    return {name: tuple(Sighting(**row) for row in rows) for name, rows in table.items()}


def seen_in_words(places: Iterable[str]) -> str:
    """Say in one sentence where a mistake was seen.

    Args:
        places: such as "owner/name#12"; none where it was not seen yet.
    """
    listed = ", ".join(places)
    return f"Seen in {listed}." if listed else "Plausible, not seen yet."
