"""Tensors without a dump.json: a bare file or arrays in memory, with token ids and whose names they are.

    name [B N T H]      a name may end in its layout, where its axes do not lie as the table says

Beside taps a file may hold its token ids (`input_ids`), `attention_mask` (1 for a token, 0 for a left pad),
`position_ids`, each [T] or [B, T], and `pixel_values`. Each batch row is a pass of its own.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ref.config import SOFT_TOKEN
from ref.dump.aliases import TABLES
from ref.dump.align import Raw, align_all, values_of
from ref.dump.claims import check_same_ids, rows_of_ids
from ref.dump.layouts import lengths_of
from ref.dump.opened import Dump, DumpPass
from ref.errors import wanted
from ref.ops.visibility import image_blocks

NOT_SAID = "not said"
IDS, MASK, POSITIONS = ("input_ids", "ids", "token_ids"), ("attention_mask",), ("position_ids", "positions")
PIXELS = ("vision.pixels", "pixel_values")
LAYOUT = re.compile(r"(.*\S)\s*\[((?=.*[A-Za-z])[A-Za-z0-9() ]+)\]")


class Inputs(NamedTuple):
    """What the rows of a batch were run with."""

    ids: np.ndarray  # [B, T]
    pads: np.ndarray  # [B]
    positions: np.ndarray  # [B, T], -1 on pads
    pixels: np.ndarray | None


def bare_dump(raw: Mapping[str, Raw], ids: Any, names: str | None, where: object, config: Any = None) -> Dump:
    """Make a dump of tensors that say nothing of themselves.

    Args:
        raw: name -> tensor.
        ids: token ids, [T], or [B, T] of a batch; None takes the file's `input_ids`.
        names: the alias table; None is `ref`.
        where: the file, for refusals.
        config: the model's, a `TextConfig` or a dictionary of it, for the lengths of axes; None knows none.

    Returns:
        The dump, one pass a row.

    Raises:
        BadInput: no such table, no ids or others than the file's, a batch unlike them, pads at the right, nothing that
            could be aligned, and as `align`.
    """
    names = names or "ref"
    if names not in TABLES:
        raise wanted("names", where, f"one of {', '.join(TABLES)}", names)
    raw = dict(raw)
    inputs = _inputs(raw, ids, where)
    known: dict[str, Any] = fields_of(config)
    rows, tokens = inputs.ids.shape
    images = None if inputs.pixels is None else len(inputs.pixels)
    lengths = lengths_of(known, rows, tokens, 0, images)
    taps, again = _with_layouts({name: one for name, one in raw.items() if name not in (*IDS, *MASK, *POSITIONS)})
    passes, unaligned = [], []
    for row in range(rows):
        tensors, unaligned = align_all(taps, names, lengths, where, row)
        if rows > 1:
            unaligned += [{"name": one.foreign, "why": ONE_ROW} for tap, one in tensors.items() if not _of_text(tap)]
            tensors = {tap: one for tap, one in tensors.items() if _of_text(tap)}
        passes.append(_pass(row, inputs, min(SOFT_TOKEN, lengths.text.get("v", SOFT_TOKEN)), tensors))
    unaligned += again + _not_taken(raw)
    last = {} if any(one.tensors for one in passes) else _last_tokens(taps, names, known, inputs, where)
    if last:
        unaligned = [row for row in unaligned if not row["why"].startswith("it holds 1 of ")]
    if taps and not last and not any(one.tensors for one in passes):
        first = unaligned[0]
        raise wanted("tensors", where, f"names of the table {names}", f"{first['name']}: {first['why']}")
    producer = {"name": names if names != "ref" else NOT_SAID, "version": NOT_SAID}
    weights = {"name": None, "dtype": NOT_SAID, "sha256": None}
    kinds = [one._replace(tensors=last.get(one.number, one.tensors)) for one in passes]
    return Dump(str(where), producer, {}, weights, _policy(kinds), passes, unaligned, {}, last)


def _last_tokens(taps: dict[str, Raw], names: str, known: dict[str, Any], inputs: Inputs, where: object) -> dict:
    """Return the logits, or the final norm, of each row's last token, where a file holds no other."""
    rows = len(inputs.ids)
    lengths = lengths_of(known, rows, 1, 0, None)
    aligned = {row: align_all(taps, names, lengths, where, row)[0] for row in range(rows)}
    return {row: tensors for row, tensors in aligned.items() if tensors and set(tensors) <= {*ENDS}}


ENDS = ("text.logits", "text.final_norm")


ONE_ROW = "images of several rows: which are whose is not known"


def _of_text(tap: str) -> bool:
    return not tap.startswith("vision.")


def fields_of(config: Any) -> dict[str, Any]:
    """Return a configuration as a dictionary, of None an empty one."""
    if config is None:
        return {}
    return dict(config) if isinstance(config, Mapping) else config._asdict()


def _with_layouts(raw: Mapping[str, Raw]) -> tuple[dict[str, Raw], list[dict[str, str]]]:
    """Take the layouts off the names; of a name that comes with two layouts the first is taken, the others listed."""
    out: dict[str, Raw] = {}
    first: dict[str, str] = {}
    again = []
    for name, one in raw.items():
        found = LAYOUT.fullmatch(name)
        plain = found[1] if found else name
        if plain in out:
            again.append({"name": name, "why": f"the same value as {first[plain]}, in another layout"})
            continue
        first[plain] = name
        out[plain] = one._replace(layout=found[2].strip()) if found else one
    return out, again


def _not_taken(raw: Mapping[str, Raw]) -> list[dict[str, str]]:
    """List the inputs of the run that a file holds a second time, under another name."""
    lines = []
    for names in (IDS, MASK, POSITIONS):
        first, *others = [name for name in names if name in raw] or [""]
        lines += [{"name": name, "why": f"the same input as {first}, which was taken"} for name in others]
    return lines


def _inputs(raw: Mapping[str, Raw], given: Any, where: object) -> Inputs:
    stored = _integers(raw, IDS, None, where)
    if given is None and stored is None:
        raise wanted("token ids", where, "ids (--ids), or a tensor input_ids in the file", "neither")
    ids = stored if given is None else _rows(given, where)
    assert ids is not None
    if stored is not None and given is not None:
        if len(stored) != len(ids):
            raise wanted("token ids", where, f"{len(stored)} rows, as input_ids", len(ids))
        for row, (one, other) in enumerate(zip(ids.tolist(), stored.tolist(), strict=True)):
            check_same_ids(one, other, f"{where}: row {row}" if len(ids) > 1 else where)
    mask = _integers(raw, MASK, ids.shape, where)
    pads = np.zeros(len(ids), np.int64) if mask is None else (mask != 0).argmax(1)
    if mask is not None and not mask[np.arange(ids.shape[1]) >= pads[:, None]].all():
        raise wanted("attention_mask", where, "pads at the left of tokens and nowhere else", "a 0 behind a 1, or no 1")
    positions = _integers(raw, POSITIONS, ids.shape, where)
    index = np.arange(ids.shape[1]) - pads[:, None]
    positions = np.where(index < 0, -1, index if positions is None else positions)
    pixels = next((values_of(raw[name].read()) for name in PIXELS if name in raw and len(raw[name].shape) == 4), None)
    return Inputs(ids, pads, positions, pixels if len(ids) == 1 else None)


def _rows(ids: Any, where: object) -> np.ndarray:
    """Return ids as [B, T]."""
    rows = rows_of_ids(ids, where)
    if len({len(row) for row in rows}) > 1:
        raise wanted("token ids", where, "rows of equal length", "unequal ones")
    return np.stack(rows)


def _integers(raw: Mapping[str, Raw], names: tuple[str, ...], shape, where: object) -> np.ndarray | None:
    """Read one of the file's own inputs, [T] or [B, T]; a single row of positions or mask stands for all."""
    name = next((one for one in names if one in raw), None)
    if name is None:
        return None
    one = raw[name]
    want = "integers [T] or [B, T]" if shape is None else f"integers {list(shape)}"
    if one.dtype not in ("int64", "bool") or not 0 < len(one.shape) <= 2 or 0 in one.shape:
        raise wanted(f"tensor {name}", where, want, f"{one.dtype} {list(one.shape)}")
    value = np.atleast_2d(one.read()).astype(np.int64)
    if shape is None:
        return _rows(value, where)
    if value.shape[1] != shape[1] or len(value) not in (1, shape[0]):
        raise wanted(f"tensor {name}", where, want, list(value.shape))
    return np.broadcast_to(value, shape)


def _pass(row: int, inputs: Inputs, soft_token: int, tensors) -> DumpPass:
    ids, pads = inputs.ids[row], int(inputs.pads[row])
    sees = inputs.pixels is not None or any(not _of_text(tap) or tap == "model.merged" for tap in tensors)
    soft = ids == soft_token
    blocks: list[list[int]] = []
    if sees and soft.any():
        blocks = np.unique(image_blocks(soft[None], np.full((1, len(ids)), pads), 0)[0][soft], axis=0).tolist()
    return DumpPass(row, ids, inputs.positions[row], 0, blocks, pads, inputs.pixels, tensors)


def _policy(passes: list[DumpPass]) -> dict[str, str]:
    """Say of the arithmetic what the tensors' own dtype tells: the most common one."""
    kinds = Counter(one.dtype for each in passes for one in each.tensors.values() if "float" in one.dtype)
    compute = kinds.most_common(1)[0][0] if kinds else "float32"
    said = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), compute)
    return said | {"rope_angle": NOT_SAID, "attention_impl": NOT_SAID}
