"""The arithmetic of other devices and libraries, emulated on a CPU through torch's function mode; autocast is real."""

from functools import partial

import torch

from .of_transformers import row
from .products import (
    Products,
    bfloat16_operands,
    blocked,
    chain,
    float8,
    float16_sums,
    fused_chain,
    split,
    tf32,
)
from .subjects import made_ids

ALL, WIDE, HALF = ("float32", "bfloat16", "float16"), ("float32",), ("float16",)


def _all(product):
    return lambda loaded: Products(product)


def _of_ffn(product):
    return lambda loaded: Products(product, only=lambda shape: loaded.params.config.ffn_width in shape)


def _of_layers(product):
    """All but attention and the head, which formats of 8 bits leave alone."""

    def context(loaded):
        head = loaded.params.config.vocabulary
        return Products(product, only=lambda shape: len(shape) == 2 and shape[-1] != head)

    return context


def _autocast(dtype):
    return lambda loaded: torch.autocast("cpu", dtype=dtype)


KINDS = {  # name: (what the model runs in, dtypes of the model)
    "tf32": (_all(tf32), WIDE),
    "bfloat16-operands": (_all(bfloat16_operands), WIDE),
    "autocast-bfloat16": (_autocast(torch.bfloat16), WIDE),
    "autocast-float16": (_autocast(torch.float16), WIDE),
    "float8-operands": (_of_layers(float8), ("float32", "bfloat16")),
    "float16-sums-16": (_all(float16_sums(16)), HALF),
    "float16-sums-32": (_all(float16_sums(32)), HALF),
    "chain-ffn": (_of_ffn(chain), WIDE),
    "chain": (_all(chain), ALL),
    "fused-chain": (_all(fused_chain), ALL),
    "blocks-of-32": (_all(blocked), ALL),
    **{f"split-{parts}": (_all(split(parts)), ALL if parts == 4 else WIDE) for parts in range(2, 9)},
}
SAYS = {  # the same with a dump that says so: whether it does must not matter
    "tf32": {"matmul_operands": "tf32"},
    "bfloat16-operands": {"matmul_operands": "bfloat16"},
    "float16-sums-16": {"accumulate": "float16"},
    "float16-sums-32": {"accumulate": "float16"},
}
JOBS = {"1b-pair": (3, 16), "4b-local": (3,), "27b-global": (2,), "tiny": (3, 40)}
STEPS = 1
HEAD_DIMS, SEEDS, LENGTHS = (8, 12, 16, 20, 24, 32), (0, 1), (24, 72)


def rows():
    """Yield the rows, those of one model in a run."""
    for name, lengths in JOBS.items():
        for dtype in ALL:
            for kind, (context, dtypes) in KINDS.items():
                for length in lengths if dtype in dtypes else ():
                    ids = partial(made_ids, count=length, seed=1)
                    quick = (name, length, dtype) == ("1b-pair", 3, "float32") and kind in QUICK
                    how = {"context": context, "steps": STEPS}
                    yield row(kind, name, dtype, "eager", f"{length}", ids, nightly=quick, **how)
                    if kind in SAYS:
                        yield row(f"{kind}-said", name, dtype, "eager", f"{length}", ids, says=SAYS[kind], **how)
    for head_dim in HEAD_DIMS:
        for seed in SEEDS:
            for dtype in ALL:
                for length in LENGTHS:
                    ids, name = partial(made_ids, count=length, seed=seed), f"small-{head_dim}-{seed}"
                    quick = (head_dim, seed, dtype, length) == (12, 0, "float32", 24)
                    yield row("torch", name, dtype, "eager", f"{length}", ids, nightly=quick)


QUICK = ("tf32", "bfloat16-operands", "autocast-bfloat16", "chain", "fused-chain", "blocks-of-32", "split-4")
