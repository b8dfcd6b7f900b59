"""Look a foreign name up in the tables of `ref.dump.aliases`, or say why it is not there."""

import re
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple

from ref.dump.aliases import TABLES, Alias, Part, Table
from ref.model.tap_rows import LAYER_TAPS, MERGED, TEXT_TAPS, VISION_LAYER_TAPS, VISION_TAPS
from ref.model.taps import tap_row

ALIKE = 0.6  # of difflib's ratio, from which a name is near enough to be shown
NUMBER = r"(?<![0-9A-Za-z]){}(?![0-9A-Za-z])"


class Found(NamedTuple):
    """Where one foreign value, or a part of it, goes."""

    tap: str
    how: str
    part: Part | None


def find(names: str, foreign: str, layers: int | None, blocks: int | None = None) -> list[Found] | str:
    """Find the taps that a foreign value holds. Where a naming has no word for a value, our tap name is understood.

    Args:
        names: a key of TABLES.
        foreign: the name, as it stands in the file.
        layers: L; None where it is not known.
        blocks: of the vision tower.

    Returns:
        Where it goes, several places for a fused value; or why it goes nowhere, with the nearest name that does.

    Source: `ref.dump.aliases`.
    """
    if tap_row(foreign) is not None:
        return [Found(foreign, "", None)]
    table = TABLES[names]
    for name in _spellings(foreign, table):
        for key, layer in _keys(name):
            if key in table.rows:
                return _placed(table.rows[key], layer, layers, blocks)
    return _unknown(names, foreign)


def _placed(rows: list[Alias], layer: int | None, layers: int | None, blocks: int | None) -> list[Found] | str:
    if not rows[0].tap:
        return rows[0].why
    found = []
    for row in rows:
        tap, count = row.tap, blocks if row.tap.startswith("vision.") else layers
        if "{last}" in tap or tap.startswith("hidden state"):
            if count is None:
                return "which layer is the last is not known: say whose weights these are"
            tap = tap.replace("{last}", str(count - 1))
        if tap.startswith("hidden state"):  # transformers' last one has been normalised
            tap = "text.final_norm" if layer == layers else "text.layer.{i}.in"
        found.append(Found(tap.replace("{i}", str(layer)), row.how, row.part))
    return found


def _spellings(foreign: str, table: Table) -> list[str]:
    """List a name and what is left of it without what may stand before and behind; paths with dots."""
    names = [foreign.replace("/", ".") if table.prefixes else foreign]
    while shorter := next((names[-1][len(one) :] for one in table.prefixes if names[-1].startswith(one)), ""):
        names.append(shorter)
    names = [name.replace("vision_tower.vision_model.", "vision_tower.") for name in names]
    return [*names, *(name.removesuffix(end) for end in table.suffixes for name in names if name.endswith(end))]


def _keys(name: str) -> list[tuple[str, int | None]]:
    """List a name as a table may have it: as it is, or with one of its numbers as {i}."""
    numbers = [m for m in re.finditer(NUMBER.format("[0-9]{1,4}"), name.replace("_", "."))]
    return [(name, None), *((f"{name[: m.start()]}{{i}}{name[m.end() :]}", int(m[0])) for m in numbers)]


def _unknown(names: str, foreign: str) -> str:
    other = next((one for one in TABLES if one != names and _is_in(one, foreign)), None)
    if other:
        return f"no such name in the table {names}; it is one of the table {other}"
    number = re.search(NUMBER.format("[0-9]{1,9}"), foreign)
    layer = number[0] if number else "0"
    short = re.sub(NUMBER.format(layer), "{i}", _spellings(foreign, TABLES[names])[-1], count=1)
    near = get_close_matches(short, [*TABLES[names].rows, *_own_names()], 1, ALIKE)
    hint = f"; nearest is {near[0].replace('{i}', layer)}" if near else ""
    return f"no such name in the table {names}{hint}"


def _is_in(names: str, foreign: str) -> bool:
    table = TABLES[names]
    return any(key in table.rows for name in _spellings(foreign, table) for key, _ in _keys(name))


@cache
def _own_names() -> list[str]:
    layers = [f"text.layer.{{i}}.{name}" for name in LAYER_TAPS]
    blocks = [f"vision.layer.{{i}}.{name}" for name in VISION_LAYER_TAPS]
    return [*layers, *blocks, *TEXT_TAPS, *VISION_TAPS, *MERGED]
