"""Dumps of `tiny` on three ranks, cut out of whole values: heads, channels and vocabulary in slices, replicas else."""

from support.dumps_on_disk import CONFIG
from support.judged import FIRST

import ref
from ref import compare
from ref.config import TINY_VISION, as_fields
from ref.model.taps import row_of
from ref.record import Recorder

OF = 3
CUT = "NKFV"


def cut(tap, value, rank, of=OF, letters=CUT):
    """Return the slice of a value that a rank holds, and what its dump says of it."""
    axes = row_of(tap).axes.split()
    letter = next((one for one in letters if one in axes), None) if tap.startswith("text.") else None
    if letter is None:
        return value, {}
    axis = axes.index(letter)
    step = -(-value.shape[axis] // of)
    here = slice(rank * step, min(value.shape[axis], (rank + 1) * step))
    return value[(*[slice(None)] * axis, here)], {"slice": {letter: (here.start, here.stop)}}


def same(rank, tap, value):
    return value


def on_ranks(folder, arrays, of=OF, hold=same, letters=CUT, parts=None, ids=None, **more):
    """Write what each rank holds; `hold` may change it, `parts` gives (rank, tap) -> a part of a sum."""
    tokens = next(value.shape[1] for tap, value in arrays.items() if tap.startswith("text."))
    ids = [FIRST + i % 70 for i in range(tokens)] if ids is None else ids
    for rank in range(of):
        about = {"weights": "tiny", "config": CONFIG, "tensor": (rank, of)} | more
        with Recorder(folder / f"rank{rank}", ids, **about) as rec:
            for tap, whole in arrays.items():
                value, said = cut(tap, whole, rank, of, letters)
                rec(tap, hold(rank, tap, value), **said)
            for (number, tap), value in (parts or {}).items():
                if number == rank:
                    rec(tap, value, partial=True)
    return folder


def judged_on_ranks(folder, arrays, **more):
    return compare(on_ranks(folder, arrays, **more), loaded=ref.load("tiny"))


def only(arrays, *names):
    """Return some taps: those of layer 2 by their short names."""
    return {tap: value for tap, value in arrays.items() if tap.removeprefix("text.layer.2.") in names}


WITH_TOWER = as_fields(ref.load("tiny").params.config, TINY_VISION)
