"""Dumps of `tiny` for the judge's tests: the graph in some dtype's arithmetic, with or without a mutant's rules."""

from typing import NamedTuple

import numpy as np

import ref
from ref.dump.align import Stored
from ref.dump.opened import Dump, DumpPass
from ref.emulate.arithmetic import emulate
from ref.emulate.graph import Run
from ref.emulate.one_pass import pass_of
from ref.emulate.policy import POLICIES
from ref.emulate.stages import prepare_stage, stages_of, taps_of
from ref.model.taps import tap_group
from ref.testing.broken import broken_taps, in_one_layer

FIRST = 20


def captured(rules=None, dtype="float32", tokens=19, only=None):
    """Compute every tap; a mutant's rules in all layers, or in `only` one."""
    ids = [FIRST + i % 70 for i in range(tokens)]
    return dict(broken_taps(ref.load("tiny"), ids, in_one_layer(rules or {}, only), dtype))


def dumped(arrays, dtype="float32", ids=None):
    """Put values into the form that the judge reads."""
    stored = {
        tap: Stored(tap, dtype if x.dtype.kind == "f" else str(x.dtype), x.shape, lambda x=x: x)
        for tap, x in arrays.items()
    }
    if ids is None:
        ids = np.array([FIRST + i % 70 for i in range(next(iter(arrays.values())).shape[1])])
    policy = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    passes = [DumpPass(0, ids, np.arange(len(ids)), 0, [], 0, None, stored)]
    weights = {"name": "tiny", "dtype": "file" if dtype == "float32" else dtype, "sha256": None}
    config = ref.load("tiny").params.config._asdict()
    return Dump("test", {"name": "a test", "version": "1"}, config, weights, policy, passes, [])


def replaced(arrays, tap, change):
    """Return the arrays with one value changed; what follows from it is left as it was."""
    assert tap_group(tap)
    return arrays | {tap: change(arrays[tap])}


class Passes(NamedTuple):
    """Passes of one prompt that continue each other, whole: every tap of every pass."""

    tokens: list[np.ndarray]  # ids of each pass
    taps: list[dict[str, np.ndarray]]
    dtype: str


def cached_passes(lengths, dtype="float32", seed=0, policy=None, rules=None, loaded=None):
    """Compute every tap of `tiny` in a chain of cached passes of these lengths, in some dtype's or policy's arithmetic.

    A mutant's rules may stand in all layers.
    """
    loaded, rng = loaded or ref.load("tiny"), np.random.default_rng(seed)
    policy = POLICIES[policy or f"transformers-{dtype}"]
    held = "file" if dtype == "float32" else dtype
    tokens = [rng.integers(3, 97, length) for length in lengths]
    chain, before = [], None
    for ids in tokens:
        cached = before.one_pass.total if before else 0
        one_pass = pass_of(loaded, ids, cached=cached, held=held, before=before and before.one_pass)
        before = Run(one_pass, emulate(policy, 1), {}, before, rules)
        chain.append(before)
    taps: list[dict[str, np.ndarray]] = [{} for _ in chain]
    for stage in stages_of(chain[0].one_pass):
        weights = prepare_stage(loaded, stage, held, np.float32)
        for run in chain:
            run.enter(stage, weights)
        for run, out in zip(chain, taps, strict=True):
            with np.errstate(all="ignore"):
                out |= {tap: run.value(tap) for tap in taps_of(stage, len(lengths) > 1, False)}
    return Passes(tokens, taps, dtype)


def as_dump(passes, kept):
    """Put passes into the form that the judge reads; `kept[i]` names the taps that pass i shows."""
    rows, cached = [], 0
    for number, (ids, taps) in enumerate(zip(passes.tokens, passes.taps, strict=True)):
        shown = {tap: taps[tap] for tap in kept[number]}
        one = dumped(shown, passes.dtype, ids)
        place = cached + np.arange(len(ids))
        rows.append(one.passes[0]._replace(number=number, ids=ids, positions=place, cached=cached))
        cached += len(ids)
    return one._replace(passes=rows)
