"""The TINY model, built once, and the ways the tests run it."""

from functools import cache

import numpy as np

from ref.config import SIZES, VISION
from ref.model.params import TextParams
from ref.model.taps import SILENCE
from ref.model.text import How, forward
from ref.ops import DEFINITION, KERNEL
from ref.weights.synthetic import synthetic_params, synthetic_vision

TINY = SIZES["tiny"]
BOTH = {"definition": DEFINITION, "kernel": KERNEL}


@cache
def params() -> TextParams:
    """Synthetic float32 parameters, held: a lazy layer would be drawn anew in every pass."""
    made = synthetic_params(TINY, 0, bfloat16=False)
    return made._replace(layers=list(made.layers))


@cache
def vision(name):
    """Synthetic float32 parameters of a tower, held."""
    made = synthetic_vision(VISION[name], TINY.width, 0, bfloat16=False)
    return made._replace(layers=list(made.layers))


def random_ids(seed: int, B: int, T: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, TINY.vocabulary, (B, T))


def logits(ids, ops=KERNEL, dtype=np.float64, taps=SILENCE, **arguments) -> np.ndarray:
    """Run without a cache and return [B, T, V]."""
    return forward(params(), ids, How(ops=ops, dtype=dtype, taps=taps), **arguments)[0]


def assert_close(result, wanted, limit=1e-12):
    """Assert that the largest difference is within `limit` of the largest value."""
    assert result.shape == wanted.shape
    assert np.abs(result - wanted).max() <= limit * np.abs(wanted).max()
