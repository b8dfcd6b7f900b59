"""Dumps of `tiny` for the judge's tests: the graph in some dtype's arithmetic, with or without a mutant's rules."""

import numpy as np

import ref
from ref.model.taps import tap_group
from ref.testing.broken import broken_taps, in_one_layer
from ref.verify.align import Stored
from ref.verify.opened import Dump, DumpPass

FIRST = 20


def captured(rules=None, dtype="float32", tokens=19, only=None):
    """Compute every tap; a mutant's rules in all layers, or in `only` one."""
    ids = [FIRST + i % 70 for i in range(tokens)]
    return dict(broken_taps(ref.load("tiny"), ids, in_one_layer(rules or {}, only), dtype))


def dumped(arrays, dtype="float32"):
    """Put values into the form that the judge reads."""
    stored = {
        tap: Stored(tap, dtype if x.dtype.kind == "f" else str(x.dtype), x.shape, lambda x=x: x)
        for tap, x in arrays.items()
    }
    count = next(iter(arrays.values())).shape[1]
    ids = np.array([FIRST + i % 70 for i in range(count)])
    policy = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    passes = [DumpPass(0, ids, np.arange(count), 0, [], 0, None, stored)]
    weights = {"name": "tiny", "dtype": "file" if dtype == "float32" else dtype, "sha256": None}
    config = ref.load("tiny").params.config._asdict()
    return Dump("test", {"name": "a test", "version": "1"}, config, weights, policy, passes, [])


def replaced(arrays, tap, change):
    """Return the arrays with one value changed; what follows from it is left as it was."""
    assert tap_group(tap)
    return arrays | {tap: change(arrays[tap])}
