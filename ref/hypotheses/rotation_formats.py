"""Formats that the rotary embedding's frequencies, angles or tables were rounded to."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ref.emulate.context import Context
from ref.emulate.operands import ROUND
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.mutants.rotation import ROPE, turned

Rounded = Callable[[np.ndarray], np.ndarray]  # float32 values as a narrower format has them
Places = tuple[np.ndarray, np.ndarray]  # cosines and sines, [B, T, H/2]


def rounded_frequencies(at: Context, rounded: Rounded) -> Places:
    """Return the table of frequencies that were rounded."""
    return _table_of(at, _angles(at, rounded(_frequencies(at)).astype(np.float64)))


def _rounded_angles(at: Context, rounded: Rounded) -> Places:
    angles = _angles(at, _frequencies(at).astype(np.float64))
    return _table_of(at, rounded(angles.astype(np.float32)).astype(np.float64))


def rounded_table(at: Context, rounded: Rounded) -> Places:
    """Return cosines and sines that were rounded."""
    cos, sin = (rounded(x.astype(np.float32)).astype(at.ops.dtype) for x in at.places())
    return cos, sin


def _angles(at: Context, frequencies: np.ndarray) -> np.ndarray:
    return np.maximum(at.one_pass.positions, 0)[..., None] * frequencies


def _frequencies(at: Context) -> np.ndarray:
    base, factor = at.config.rope(at.layer)
    return (base ** (-np.arange(at.config.head_dim // 2) * 2.0 / at.config.head_dim) / factor).astype(np.float32)


def _table_of(at: Context, angles: np.ndarray) -> Places:
    return np.cos(angles).astype(at.ops.dtype), np.sin(angles).astype(at.ops.dtype)


_WAYS = (
    ("rotary_frequencies_rounded", "The rotation's frequencies are rounded", rounded_frequencies),
    ("rotary_angles_rounded", "The rotation's angles are rounded", _rounded_angles),
    ("rotary_table_rounded", "Cosines and sines are rounded", rounded_table),
)


def _formats(clue: Clue) -> Iterator[Hypothesis]:
    """Round frequencies, angles or the table to a narrower format."""
    for kind in ("bfloat16", "float16"):
        for name, what, change in _WAYS:
            rule = {clue.group: partial(_turned_by, change=change, rounded=ROUND[kind])}
            mutant = mutant_of(name, f"{what} to {kind}.", rule)
            yield Hypothesis(mutant, (Parameter("format", kind, None, "float32"),), 0)


def _turned_by(at: Context, change: Callable[[Context, Rounded], Places], rounded: Rounded) -> np.ndarray:
    return turned(at, *change(at, rounded))


ROTATION_FORMATS = (Family("formats of the rotation", frozenset(ROPE), _formats),)
