"""Arrays and shapes of other namings, aligned or refused."""

import numpy as np
import pytest
from support.tiny import TINY

from ref.config import TINY_VISION
from ref.dump.align import Raw, align
from ref.dump.layouts import lengths_of
from ref.dump.open import arrays_as_dump
from ref.errors import BadInput

IDS = [2, 7, 96, 0, 45, 45, 31, 8]
T = len(IDS)
CONFIG = TINY._asdict() | {"vision": TINY_VISION._asdict()}
LENGTHS = lengths_of(CONFIG, 1, T, 0, 2)
Q = "text.layer.3.attn.q"


def opened(arrays, names="ref", ids=IDS, config=CONFIG):
    """Align arrays of one pass; return (tap -> values, name -> why not)."""
    dump = arrays_as_dump(arrays, ids, names, config=config)
    values = {tap: stored.load() for tap, stored in dump.passes[0].tensors.items()}
    for tap, stored in dump.passes[0].tensors.items():
        assert stored.shape == values[tap].shape
    return values, {one["name"]: one["why"] for one in dump.unaligned}


def raw(*shape, dtype="float32", layout=""):
    return Raw(dtype, shape, lambda: np.zeros(shape, "f4"), layout)


def refused(foreign, one, names="ref"):
    with pytest.raises(BadInput) as error:
        align(names, foreign, one, LENGTHS, "dump")
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)
