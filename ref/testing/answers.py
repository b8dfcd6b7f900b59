"""What a foreign rule is told, and how its answer is read, whatever type it has."""

from typing import Any

import numpy as np

from ref.errors import BadInput
from ref.mutants.visibility_parts import Layout, real_rows
from ref.ops.visibility import as_matrix

MATRIX, RANGES, ADDITIVE = "matrix", "ranges", "additive"
HIDDEN = -1000  # an additive mask hides with this or less
PROBE = Layout(np.zeros(3, bool), np.zeros(3, np.int64), 0, None)  # three tokens of text: [3, 3] or [3, 2]


class Ended(BadInput):
    """There will be no more answers: it is no use to go on asking."""


def question(layout: Layout) -> dict[str, Any]:
    """Return everything a foreign rule may want to know of a layout, by name.

    Args:
        layout: the tokens of a pass.

    Returns:
        The arguments that `ref.testing.check_visibility` lists.
    """
    soft, first, start, window = layout[:4]
    index = start + np.arange(len(soft))
    own = np.concatenate([np.where(np.arange(start) < first[0], -1, first[0]), np.where(index < first, -1, first)])
    found = np.unique(own[own >= 0])
    return {
        "soft": soft,
        "first": first,
        "start": start,
        "window": window,
        "keys": len(own),
        "pads": int(first[0]),
        "prompts": np.where(own < 0, -1, np.searchsorted(found, own)),
        "positions": np.maximum(index - first, 0),
        "local_window": layout.local_window,
    }


def plain_question(layout: Layout) -> dict[str, Any]:
    """Return the same as JSON holds it.

    Args:
        layout: the tokens of a pass.
    """
    return {name: plain(value) for name, value in question(layout).items()}


def plain(value: Any) -> Any:
    """Return a value as JSON holds it, booleans in arrays as 0 and 1.

    Args:
        value: array, number or None.
    """
    if isinstance(value, np.ndarray):
        return (value.astype(int) if value.dtype == bool else value).tolist()
    return value


def find_kind(answer: Any) -> str:
    """Tell from the answer to PROBE what a rule answers with: a matrix, ranges or an additive mask.

    Args:
        answer: of any type.
    """
    try:
        found = _array(answer)
    except ValueError:
        return MATRIX  # not an answer at all, which will show
    if found.shape == (3, 2) and found.dtype.kind in "iu":
        return RANGES
    return ADDITIVE if found.dtype.kind in "if" and (found < 0).any() else MATRIX


def _array(answer: Any) -> np.ndarray:
    try:
        found = np.asarray(answer)
    except Exception as error:  # each library has its own: ragged lists, tensors on a device, bfloat16
        raise ValueError(f"gave what is no array: {type(error).__name__}: {error}") from None
    if found.dtype.kind == "U" and found.ndim == 1 and len({len(row) for row in found.tolist()}) == 1:
        found = np.array([[letter for letter in row] for row in found.tolist()])
        found = found.astype(int) if np.isin(found, ["0", "1"]).all() else found
    if found.dtype.kind not in "biuf":
        raise ValueError(f"gave {_short(answer)}, wanted numbers or booleans")
    while found.ndim > 2 and found.shape[0] == 1:
        found = found[0]
    return found


def _short(answer: Any) -> str:
    text = f"{type(answer).__name__} {answer!r}"
    return text if len(text) <= 80 else text[:77] + "..."


def read_mask(kind: str, layout: Layout, answer: Any) -> np.ndarray:
    """Read a matrix, ranges or an additive mask.

    Args:
        kind: from `find_kind`.
        layout: what was asked.
        answer: of any type that `np.asarray` takes; or rows of 0 and 1 as strings.

    Returns:
        [T, S] bool.

    Raises:
        ValueError: what is wrong with it, as the end of a sentence.
    """
    found, T, S = _array(answer), len(layout.soft), layout.start + len(layout.soft)
    shape = (T, 2) if kind == RANGES else (T, S)
    if found.shape != shape:
        what = "ranges [T, 2]" if kind == RANGES else "a matrix [T, S]"
        raise ValueError(f"gave shape {list(found.shape)}, wanted {what} = {list(shape)}")
    if kind == RANGES:
        if found.dtype.kind not in "iu":
            raise ValueError(f"gave ranges of {found.dtype}, wanted integers")
        return as_matrix(found.astype(np.int64), S)
    real = real_rows(layout)
    low = (found <= HIDDEN) if kind == ADDITIVE else (found == 0)
    high = (found == 0) if kind == ADDITIVE else (found == 1)
    if not (low | high)[real].all():
        t, s = np.argwhere(~(low | high) & real[:, None])[0]
        want = f"0 or at most {HIDDEN}" if kind == ADDITIVE else "0 or 1"
        raise ValueError(f"gave {found[t, s]} at row {t}, key {s}, wanted {want}")
    return high


def read_boxes(answer: Any) -> list[list[int]]:
    """Read boxes: any sequence of four whole numbers each.

    Args:
        answer: of any type that `np.asarray` takes.

    Returns:
        List of [y0, x0, y1, x1].

    Raises:
        ValueError: what is wrong with it, as the end of a sentence.
    """
    found = _array(answer)
    if found.size == 0 and found.ndim in (1, 2):
        return []
    if found.ndim != 2 or found.shape[1] != 4:
        raise ValueError(f"gave shape {list(found.shape)}, wanted boxes [n, 4]")
    if found.dtype.kind == "b" or not (found == np.round(found)).all() or not (abs(found) < 2**53).all():
        raise ValueError(f"gave {_short(answer)}, wanted whole numbers")
    return found.astype(np.int64).tolist()
