"""Dumps of `tiny` as servers run it: rejected tokens, context shifts, right pads, slots, rows of a batch."""

import numpy as np
from support.dumps_on_disk import MODEL, POLICY

import ref
from ref.dump.write import DumpWriter
from ref.emulate.arithmetic import TRUTH, emulate
from ref.emulate.graph import Run
from ref.emulate.one_pass import pass_of
from ref.emulate.policy import POLICIES
from ref.emulate.stages import prepare_stage, stages_of, taps_of

FIRST = 20


def ids_of(count, seed=0):
    return np.random.default_rng(seed).integers(3, 97, count)


def index_of(kept):
    """Return which keys are left, and by how far each moved, of ranges [start, stop, position]."""
    index = np.concatenate([np.arange(start, stop) for start, stop, _ in kept])
    return index, np.concatenate([np.arange(stop - start) + at for start, stop, at in kept]) - index


def chain(steps, rules=None, truth=False, positions=None):
    """Run passes that continue each other; a step is (ids, what is kept or None). Returns runs and their taps.

    Positions are those of the first pass, where prompts are packed in it.
    """
    loaded, runs, before = ref.load("tiny"), [], None
    for ids, kept in steps:
        index, moved = (None, None) if kept is None else index_of(kept)
        cached = 0 if before is None else before.one_pass.total if index is None else len(index)
        how = {"before": before.one_pass, "kept": index, "moved": moved} if before else {"positions": positions}
        one_pass = pass_of(loaded, ids, cached=cached, **how)
        arithmetic = TRUTH if truth else emulate(POLICIES["transformers-float32"], 1)
        before = Run(one_pass, arithmetic, {}, before, rules)
        runs.append(before)
    taps = [{} for _ in runs]
    for stage in stages_of(runs[0].one_pass):
        weights = prepare_stage(loaded, stage, "file", np.float64 if truth else np.float32)
        for run in runs:
            run.enter(stage, weights)
        for run, out in zip(runs, taps, strict=True):
            out |= {tap: run.value(tap) for tap in taps_of(stage, run.one_pass.cached > 0, False)}
    return runs, taps


def row_of(ids, cached, **more):
    positions = (cached + np.arange(len(ids))).tolist()
    return {
        "ids": [int(i) for i in ids], "positions": positions, "cached": cached, "image_blocks": [], "left_pads": 0,
    } | more  # fmt: skip


def write(folder, passes):
    """Write passes, each (row, tensors); return the folder."""
    with DumpWriter(folder, MODEL, POLICY) as writer:
        for row, tensors in passes:
            for name, value in tensors.items():
                writer.add_tensor(name, value)
            writer.end_pass(row)
    return folder


def shown(taps, fused=False):
    """Return the taps that a dump shows: of fused attention neither scores nor probabilities, no caches."""
    hidden = (".cache.k", ".cache.v", ".cache.positions") + (("attn.scores", "attn.probs") if fused else ())
    return {tap: x for tap, x in taps.items() if not tap.endswith(hidden)}
