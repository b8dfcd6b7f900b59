"""All rows, in the order in which they are measured."""

from .row import Options, Row
from .rows import growth, judged, limits, seen, sizes, startup, text, tower_ops, traced

FAMILIES = (limits, startup, text, traced, judged, seen, tower_ops, sizes, growth)


def all_rows(options: Options) -> list[Row]:
    """List every row."""
    return [row for family in FAMILIES for row in family.rows(options)]
