"""Rows of transformers on a CPU: how one of them is written, with whatever arithmetic and whatever mistake."""

import copy
import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from ref.weights.resolve import Loaded

from .row import Row
from .subjects import subject

Ids = Callable[[Loaded], Any]


def write(
    name, dtype, attention, ids: Ids, folder, plant=None, *, context=None, says=None, device="", compiled=False, **how
) -> Loaded:
    """Capture a subject into a folder and return its weights.

    Args:
        name, dtype: of the subject.
        attention: eager, sdpa or flex_attention.
        ids: makes them of the loaded weights.
        folder: where the dump will be.
        plant: patches a copy of the model first, or None.
        context: makes what the model runs in of the weights; None for nothing.
        device: where a copy of the model runs; empty for the CPU.
        compiled: whether torch.compile makes it first.
        says: what a producer would say of its arithmetic, which torch on a CPU does not know; None for nothing.
        how: further arguments of `capture`.
    """
    import torch

    from ref.capture.transformers import capture

    loaded, model = subject(name, dtype)
    model.set_attn_implementation(attention)
    model = copy.deepcopy(model) if plant or device else model
    model = model.to(device) if device else model
    undo = plant(model, loaded) if plant else None
    try:
        with context(loaded) if context else nullcontext():
            capture(torch.compile(model) if compiled else model, ids(loaded), folder, weights=loaded.name, **how)
    finally:
        if callable(undo):
            undo()
    if says:
        declare(folder, says)
    return loaded


def declare(folder, says: dict[str, str]) -> None:
    """Let a dump say more of its policy."""
    path = folder / "dump.json"
    content = json.loads(path.read_text())
    content["policy"] |= says
    path.write_text(json.dumps(content))


def row(
    kind, name, dtype, attention, what, ids: Ids, *, context=nullcontext, counted=True, nightly=False, **how
) -> Row:
    """Make a row of transformers; arguments as `write`, and `kind` and `what` for its name."""
    call = partial(_write, partial(write, name, dtype, attention, ids, context=context, **how))
    full = "/".join((kind, name, dtype, attention, what))
    return Row(full, dtype, name, call, plantable=True, counted=counted, nightly=nightly)


def _write(call, folder, plant):
    return call(folder=folder, plant=plant)
