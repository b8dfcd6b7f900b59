"""Tables of modules: which value of which module is which tap, and how its axes lie. Data that anybody can write.

    table = {
        "blocks.{i}.norm1": ("text.layer.{i}.attn.pre_norm", "B T D"),              # what comes out
        "blocks.{i}.attn.o": [("L.attn.mix", "B T (N H)", "input"), "L.attn.out"],  # L. is text.layer.{i}.
        "blocks.{i}.attn.qkv": ("L.attn.q + L.attn.k + L.attn.v", "B T (N H)+(K H)+(K H)"),  # one behind another
        "blocks.{i}.rope": [("L.attn.q_rope", "output, call 0"), ("L.attn.k_rope", "output, call 1")],
        "blocks.{i}.cell": ("L.out", "output[0]"),                                  # of several; also input.name
        "tower.{i}.fc2": ("V.ffn.act", "input"),                                    # V. is vision.layer.{i}.
    }

A layout is as `ref.dump.layouts` has it; without one the axes are the registry's, as docs/taps.md lists them.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ref.dump.layouts import axes_of_value, sides_of
from ref.errors import unknown, wanted
from ref.model.taps import tap_names, tap_row

Row = str | tuple[str, ...]
Table = Mapping[str, Row | list[Row]]
SIDE = re.compile(r"(input|output)(?:\[(\d+)\]|\.(\w+))?(?:, call (\d+))?")
SHORT = {"L.": "text.layer.{i}.", "V.": "vision.layer.{i}."}
OF_IMAGES = ("vision.", "model.merged")  # how the names of taps begin that only a run with images has
GROUP = r"(?:\([^()+]*\)|\w+)"


class Place(NamedTuple):
    """Where a tap is heard, or several that lie one behind another."""

    module: str  # its name in the model; empty is the model itself
    side: str  # input or output
    which: int | str | None  # of several values: its number or name
    call: int | None  # of several calls in one pass
    taps: tuple[str, ...]
    layouts: tuple[str, ...]  # of each tap; empty is the registry's
    axis: int | None  # along which several lie, from the end
    pattern: str  # the module's name in the table

    @property
    def of_image(self) -> bool:
        """Whether it is heard only where images go in."""
        return self.taps[0].startswith(OF_IMAGES)

    def __str__(self) -> str:
        return f"{self.side} of {self.module or 'the model'}"


def places_of(table: Table, names: Collection[str], layers: int, blocks: int = 0) -> list[Place]:
    """Find each place that a table names.

    Args:
        table: module -> row or rows, as above.
        names: of the modules that the model has.
        layers: L, the numbers that {i} stands for.
        blocks: of the vision tower, which {i} stands for in its rows; 0 of a run without images, which are passed over.

    Raises:
        BadInput: no table, or one without a row; a row that cannot be read, an unknown tap, a module that is not there.
    """
    if not isinstance(table, Mapping) or not all(isinstance(module, str) for module in table):
        raise wanted("table", "capture", "{module: tap}, names of modules in quotes", table)
    found = []
    for module, rows in table.items():
        for row in rows if isinstance(rows, list) else [rows]:
            found += _of_row(module, row, names, layers, blocks)
    if not found:
        raise wanted("table", "capture", "at least one module", "none")
    return found


def _of_row(module: str, row: Row, names: Collection[str], layers: int, blocks: int) -> list[Place]:
    tap, layout, side = read_row(module, row)
    taps = tuple(_whole(one.strip()) for one in tap.split("+"))
    seen = [one.startswith(OF_IMAGES) for one in taps]
    if any(seen) and not all(seen):
        raise wanted("table", module or "the model", "taps of images, or of the text", tap)
    count = blocks if taps[0].startswith("vision.") else layers
    if any(seen) and not blocks:
        return []
    parts, axis = _parts(module, layout, len(taps))
    if any(("{i}" in one) != ("{i}" in module) for one in taps):
        raise wanted("table", module or "the model", "{i} in the module's name and in its taps, or in neither", tap)
    out = []
    for i in range(count) if "{i}" in module else [0]:
        name, own = module.replace("{i}", str(i)), tuple(one.replace("{i}", str(i)) for one in taps)
        _check(name, own, names, module, i, count)
        _check_layouts(own, parts)
        side_of, which, call = side
        out.append(Place(name, side_of, which, call, own, parts, axis, module))
    return out


def _whole(tap: str) -> str:
    """Return a tap's name, written out."""
    return next((whole + tap.removeprefix(short) for short, whole in SHORT.items() if tap.startswith(short)), tap)


def read_row(module: str, row: Row) -> tuple[str, str, tuple[str, int | str | None, int | None]]:
    """Read a row: its taps, layout, and which value it is; arguments may stand in any order behind the tap.

    Args:
        module: for refusals.
        row: `tap`, or `(tap, layout, side)`, the last two of which may be missing.
    """
    parts = row if isinstance(row, tuple) else (row,)
    if not 0 < len(parts) <= 3 or not all(isinstance(one, str) for one in parts):
        raise wanted("table", module or "the model", "(tap, layout, side), the last two if needed", repr(row))
    layout, side = "", ("output", None, None)
    for one in parts[1:]:
        if found := SIDE.fullmatch(one):
            number, name, call = found[2], found[3], found[4]
            side = (found[1], int(number) if number else name, int(call) if call else None)
        elif re.match("input|output", one):
            raise wanted("table", module or "the model", "such as input, input[1], output.name or output, call 1", one)
        else:
            layout = one
    return parts[0], layout, side


def _parts(module: str, layout: str, count: int) -> tuple[tuple[str, ...], int | None]:
    """Return the layout of each of several taps that lie behind one another, and the axis."""
    groups = re.findall(rf"{GROUP}(?:\+{GROUP})*", layout)
    for at, group in enumerate(groups):
        own = re.findall(GROUP, group)
        if len(own) > 1 and len(own) == count:
            return tuple(" ".join([*groups[:at], one, *groups[at + 1 :]]) for one in own), at - len(groups)
    if count > 1 or "+" in layout:
        raise wanted("layout", module, f"an axis of {count} parts, one for each tap, such as (N H)+(K H)", layout)
    return (layout,), None


def _check(name: str, taps: tuple[str, ...], names: Collection[str], pattern: str, i: int, count: int) -> None:
    for tap in taps:
        if tap_row(tap) is None:
            raise unknown("tap", f"table, {pattern or 'the model'}", tap, tap_names(count, vision_layers=count))
    if name not in names:
        if i:
            raise wanted(f"modules {pattern}", "table", f"{count} of them, one a layer of the weights", i)
        raise unknown("module", "table", name, [one for one in names if one])


def _check_layouts(taps: tuple[str, ...], layouts: tuple[str, ...]) -> None:
    """Refuse a layout before anything runs; that of integers hangs on how they are given."""
    for tap, layout in zip(taps, layouts, strict=True):
        row = tap_row(tap)
        if layout and row is not None and not row.integers:
            sides_of(layout, axes_of_value(tap, "float32", tap, "table"), tap, "table")


def shipped(table: Table, names: Collection[str]) -> dict[str, Any]:
    """Return a table of ours under the names that this model has: something may stand before each.

    Args:
        table: whose rows begin at the model's own root, perhaps with some that this model lacks.
        names: of the modules that the model has.

    Returns:
        The rows whose modules are there.
    """
    first = next(name for name in table if "{i}" in name).replace("{i}", "0")
    ends = [name.removesuffix(first) for name in names if name == first or name.endswith(f".{first}")]
    prefix = min(ends, key=len, default="")
    return {prefix + key: rows for key, rows in table.items() if (prefix + key).replace("{i}", "0") in names}
