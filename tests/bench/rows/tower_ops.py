"""The tower's operations at full size, one row each: 4,096 patches, width 1,152, 16 heads of 72, FFN 4,304."""

from collections.abc import Iterator
from typing import Any

from ..drawn import normal
from ..row import TRANSFORMERS, Entry, Job, Options, Row

P, D, N, FFN, EPS = 4_096, 1_152, 16, 4_304, 1e-6
SCALE = (D // N) ** -0.5
# operation: how many of it a block has
OPS = {"layer-norm": 2, "linear-1152-1152": 4, "attend": 1, "linear-1152-4304": 1, "gelu": 1, "linear-4304-1152": 1}


def rows(options: Options) -> Iterator[Row]:
    """List the rows."""
    for name, times in OPS.items():
        entries = [
            Entry("ref", "rows.tower_ops:ours", {"name": name}),
            Entry("torch", "rows.tower_ops:of_torch", {"name": name}, TRANSFORMERS),
        ]
        yield Row(f"tower-{name}", f"an operation of the tower, {times} in a block, float32", entries)


def _operands(name: str) -> tuple[Any, ...]:
    """Return what an operation takes."""
    if name == "layer-norm":
        return normal(0, 1, P, D), normal(1, D), normal(2, D)
    if name == "attend":
        return tuple(normal(seed, 1, P, N, D // N) for seed in (3, 4, 5))
    if name == "gelu":
        return (normal(6, 1, P, FFN),)
    _, inputs, outputs = name.split("-")
    return normal(7, 1, P, int(inputs)), normal(8, int(outputs), int(inputs)), normal(9, int(outputs))


def ours(name: str) -> Job:
    """Run a kernel."""
    import ref  # isort: skip
    import numpy as np

    x, visible = _operands(name), np.broadcast_to([0, P], (1, P, 2))
    calls = {
        "layer-norm": lambda: ref.KERNEL.layer_norm(x[0], x[1], x[2], EPS),
        "attend": lambda: ref.KERNEL.attend(x[0], x[1], x[2], visible, SCALE),
        "gelu": lambda: ref.KERNEL.gelu(*x),
    }
    return Job(calls.get(name, lambda: ref.KERNEL.linear(x[0], x[1], x[2])))


def of_torch(name: str) -> Job:
    """Run torch's operation."""
    import torch
    from torch.nn import functional as F

    torch.set_grad_enabled(False)
    x = tuple(map(torch.from_numpy, _operands(name)))

    def attend():
        q, k, v = (one.transpose(1, 2) for one in x)
        return F.scaled_dot_product_attention(q, k, v, scale=SCALE).transpose(1, 2)

    calls = {
        "layer-norm": lambda: F.layer_norm(x[0], (D,), x[1], x[2], EPS),
        "attend": attend,
        "gelu": lambda: F.gelu(*x, approximate="tanh"),
    }
    return Job(calls.get(name, lambda: F.linear(x[0], x[1], x[2])))
