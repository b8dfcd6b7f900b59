"""Small dumps in memory, of toy runs that are right or have a mistake."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import ref
from ref.dump.open import open_dump
from ref.dump.sketch import sketch
from ref.dump.trace import trace
from ref.model.text import How
from ref.ops import KERNEL
from ref.testing.broken import break_port


def small(mistake=None, dtype="float32", cached=False, taps=()):
    """Return a dump of sketches; some taps are kept whole, and a step goes on behind its prompt."""
    with TemporaryDirectory() as folder:
        place, ids = Path(folder), [2, *(20 + i * 7 % 70 for i in range(20))]
        if cached:
            trace(ref.load("tiny"), [ids], place / "whole", How(KERNEL, np.float32), ["*"], 1)
        else:
            break_port(place / "whole", ref.load("tiny"), ids, mistake, 3 if mistake else None, dtype)
        opened = open_dump(sketch(place / "whole", place / "small", values=48))
        if taps:
            return with_whole(opened, open_dump(place / "whole"), taps)
        return in_memory(opened)


def off_at(dump, tap):
    """Have one tap be off that nothing follows from, as if a port had written it wrong."""
    shown = dump.partial[0][tap].read()
    wrong = shown._replace(values=shown.values * np.float32(1.001))
    found = dump.partial[0] | {tap: dump.partial[0][tap]._replace(read=lambda: wrong)}
    return dump._replace(partial=dump.partial | {0: found})


def in_memory(dump):
    """Read all that a dump has: its files go."""
    read = {
        number: {tap: one._replace(read=partial(lambda known: known, one.read())) for tap, one in taps.items()}
        for number, taps in dump.partial.items()
    }
    passes = [
        one._replace(tensors={tap: as_read(tensor) for tap, tensor in one.tensors.items()}) for one in dump.passes
    ]
    return dump._replace(partial=read, passes=passes)


def as_read(tensor):
    value = tensor.read().copy()
    return tensor._replace(read=lambda: value)


def with_whole(small, whole, taps):
    """Keep some taps whole."""
    passes = [
        one._replace(tensors=one.tensors | {tap: other.tensors[tap] for tap in taps if tap in other.tensors})
        for one, other in zip(small.passes, whole.passes, strict=True)
    ]
    partial = {
        number: {tap: one for tap, one in found.items() if tap not in taps} for number, found in small.partial.items()
    }
    return in_memory(small._replace(passes=passes, partial=partial))
