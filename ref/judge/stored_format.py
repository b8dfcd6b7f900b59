"""What format a dump's values really have: NumPy has no bfloat16, so that many are stored as float32."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ref.diagnosis.find_arithmetic import ENDS, PRODUCTS, WIDE
from ref.dump.opened import Dump
from ref.dump.read_bare import NOT_SAID
from ref.dump.read_llama_text import PartialTap
from ref.dump.sketched import SketchedTap
from ref.measure.scans import all_below
from ref.model.taps import tap_group

TOKENS, ENOUGH = 64, 64  # tokens of a tensor that are looked at; values that must differ from 0 to tell
FIRST = 2**16  # values that mostly tell already
STORED = ("float32", "float64")  # formats that hold narrower values
NOT_COMPUTED = ("vision.pixels", "model.merged")  # given, or moved


def values_as_computed(dump: Dump) -> tuple[Dump, list[str]]:
    """Give tensors the format of their values, where that is narrower than what they are stored in.

    Each kind of tap is looked at once, in the first pass and layer that has it. One that is narrow among wide ones may
    be a mistake: only where all products are narrow it is how the dump was computed, in whole or under autocast.

    Args:
        dump: from `open_dump`.

    Returns:
        (the dump, its tensors' `dtype` and its policy being what was found; a note of it, or none).

    Source: `.float().numpy()`, as people write it who save activations of a bfloat16 model.
    """
    formats = _formats(dump)
    narrow: dict[str, str] = {group: kind for group, kind in formats.items() if kind}
    if not narrow:
        return dump, []
    declared = str(dump.policy.get("compute_dtype") or NOT_SAID)
    kinds = sorted(set(narrow.values()))
    everywhere, kind = None not in formats.values() and len(kinds) == 1, " and ".join(kinds)
    which = next(iter(narrow)) if len(narrow) == 1 else f"{len(narrow)} kinds of tensors"
    note = f"values of {which}, stored wider, are {kind}'s; declared {declared}"
    products, stream = (_told(formats, groups) for groups in (PRODUCTS - ENDS, WIDE))
    if None in products or not (products or everywhere):
        return dump, [note]
    policy = dict(dump.policy)
    computed = everywhere or len(products | stream) == 1  # else autocast, whose residual stream is wide
    if computed and declared in ("float32", "float64", NOT_SAID):
        kind = next(iter(products | stream or kinds))
        policy |= dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), kind)
    passes = [one._replace(tensors=_narrowed(one.tensors, narrow)) for one in dump.passes]
    partial = {number: _narrowed(taps, narrow) for number, taps in dump.partial.items()}
    return dump._replace(passes=passes, policy=policy, partial=partial), [note]


def _told(formats: dict[str, str | None], groups: set[str]) -> set[str | None]:
    """Return the formats of some kinds of taps, as far as they can be told."""
    return {found for group, found in formats.items() if group in groups and found != ""}


def _narrowed(tensors: Mapping[str, Any], narrow: dict[str, str]) -> dict[str, Any]:
    """Give wide tensors of some kinds the format that was found."""
    return {
        tap: tensor._replace(dtype=narrow[tap_group(tap)])
        if tensor.dtype in STORED and tap_group(tap) in narrow
        else tensor
        for tap, tensor in tensors.items()
    }


def held_as(dump: Dump) -> str:
    """Return the dtype that a producer held its weights in; where it does not say, that of its arithmetic."""
    said, compute = str(dump.weights.get("dtype")), str(dump.policy.get("compute_dtype"))
    if said != NOT_SAID:
        return said
    return compute if compute in ("bfloat16", "float16") else "file"


def _formats(dump: Dump) -> dict[str, str | None]:
    """Return for each kind of wide tensor the format of its values: None is its own, empty not to be told."""
    found: dict[str, str | None] = {}
    for one in dump.passes:
        for tap, tensor in (*one.tensors.items(), *dump.partial.get(one.number, {}).items()):
            group = tap_group(tap)
            untold = found.get(group, "") == "" and group not in NOT_COMPUTED
            if tensor.dtype in STORED and untold and not isinstance(tensor, PartialTap):
                small = isinstance(tensor, SketchedTap)
                found[group] = format_of(tensor.read().values if small else tensor.read()[:, :TOKENS])
    return found


def format_of(value: np.ndarray) -> str | None:
    """Return the narrower format that holds all of some values; None if none does, empty if they are too few.

    bfloat16's 8 bits are within float16's 11 for usual sizes: where 8 are enough for many values, 8 it is.
    """
    wide = np.ascontiguousarray(value).reshape(-1)
    if wide.dtype == np.float32 and wide.size > FIRST and format_of(wide[:FIRST]) is None and all_below(wide):
        return None  # what does not hold the first does not hold all
    x = wide.astype(np.float32)
    if not np.array_equal(x, wide, equal_nan=True):
        return None
    whole = bool((np.rint(x) == x).all())
    if np.count_nonzero(x) < ENOUGH or whole or not np.isfinite(x).all():
        return ""
    if not (x.view(np.uint32) & np.uint32(0xFFFF)).any():
        return "bfloat16"
    with np.errstate(over="ignore"):
        if (x.astype(np.float16).astype(np.float32) == x).all():
            return "float16"
    return "float32" if wide.dtype == np.float64 else None
