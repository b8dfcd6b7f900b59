"""Dumps of `tiny` for the judge's tests: the graph in some dtype's arithmetic, with or without a mutant's rules."""

import numpy as np

import ref
from ref.model.taps import tap_group
from ref.verify.align import Stored
from ref.verify.emulate import emulate
from ref.verify.graph import RULES, Run
from ref.verify.opened import Dump, DumpPass
from ref.verify.policy import POLICIES
from ref.verify.stages import prepare_stage, stages_of, taps_of
from ref.verify.world import world_of

FIRST = 20


def captured(rules=None, dtype="float32", tokens=19, only=None):
    """Compute every tap; a mutant's rules in all layers, or in `only` one."""
    loaded, held = ref.load("tiny"), "file" if dtype == "float32" else dtype
    world = world_of(loaded, [FIRST + i % 70 for i in range(tokens)], held=held)
    run = Run(world, emulate(POLICIES[f"transformers-{dtype}"], 1), {}, None, _in_one_layer(rules or {}, only))
    out = {}
    for stage in stages_of(world):
        run.weights = prepare_stage(loaded, stage, held, np.float32)
        for tap in taps_of(stage, False, False):
            with np.errstate(all="ignore"):
                out[tap] = run.value(tap)
    return out


def _in_one_layer(rules, only):
    if only is None:
        return rules
    return {
        group: lambda c, rule=rule, group=group: (rule if c.layer == only else RULES[group])(c)
        for group, rule in rules.items()
    }


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
