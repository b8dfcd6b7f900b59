"""transformers on a GPU: made and judged on the machine that has one, and the same with a mistake by `--planted`.

python tests/bench/clean.py --only 'cuda/*' --json FILE; python tests/bench/gpu_table.py FILE ...
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from support.on_ranks import run_on_ranks

from ref.golden_files.sampled import made_pixels

from . import of_transformers
from .row import Missing, Row
from .subjects import made_ids, subject
from .tower import SIDES, with_images

DEVICE = os.environ.get("BENCH_DEVICE", "cuda")  # cpu, to try it without a GPU
SPARED = ["text.*", "vision.[peps]*", "vision.layer.*.in", "vision.layer.*.attn.[qkv]", "vision.layer.*.out"]


@contextmanager
def tf32() -> Iterator[None]:
    """Let products of float32 take TF32 operands."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(dtype: torch.dtype) -> AbstractContextManager:
    """Cast inputs of products to a format."""
    return torch.autocast(DEVICE, dtype=dtype)


# name: dtype of the model, attention, what it runs in, whether it is compiled
KINDS = {
    "float32-eager": ("float32", "eager", nullcontext, False),
    "float32-sdpa": ("float32", "sdpa", nullcontext, False),
    "float32-flex": ("float32", "flex_attention", nullcontext, False),
    "float32-compiled": ("float32", "sdpa", nullcontext, True),
    "tf32-eager": ("float32", "eager", tf32, False),
    "autocast-bfloat16": ("float32", "sdpa", partial(autocast, torch.bfloat16), False),
    "autocast-float16": ("float32", "sdpa", partial(autocast, torch.float16), False),
    "bfloat16-eager": ("bfloat16", "eager", nullcontext, False),
    "bfloat16-sdpa": ("bfloat16", "sdpa", nullcontext, False),
    "bfloat16-flex": ("bfloat16", "flex_attention", nullcontext, False),
    "bfloat16-compiled": ("bfloat16", "sdpa", nullcontext, True),
    "float16-eager": ("float16", "eager", nullcontext, False),
    "float16-sdpa": ("float16", "sdpa", nullcontext, False),
}
PAIRS = ("4b-pair", "12b-pair", "27b-pair")


def write(name, kind, ids_of, folder, plant=None, **how):
    """Capture a subject on the GPU into a folder; arguments as `of_transformers.write`."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise Missing("no GPU")
    dtype, attention, context, compiled = KINDS[kind]
    how |= {"context": lambda loaded: context(), "device": DEVICE, "compiled": compiled}
    try:
        return of_transformers.write(name, dtype, attention, ids_of, folder, plant, **how)
    except (RuntimeError, NotImplementedError) as error:  # of a compiler, of a device that lacks a kernel
        raise Missing(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}") from error


def write_on_ranks(name, dtype, count, folder, plant=None):
    """Capture a subject in slices on several GPUs, by transformers' own plan."""
    if DEVICE == "cuda" and torch.cuda.device_count() < count:
        raise Missing(f"{torch.cuda.device_count()} GPUs, of {count}")
    loaded, model = subject(name, dtype)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            run_on_ranks(count, model, dtype, Path(temporary))
        except RuntimeError as error:
            raise Missing(str(error)) from error
        shutil.copytree(Path(temporary) / "clean", folder)
    return loaded


def rows() -> Iterator[Row]:
    """Yield the rows, those of one model in a run."""
    pads = np.random.default_rng(1).integers(3, 97, (2, 15))
    for name, lengths in {"1b-pair": (3, 16, 600), "tiny": (13,)}.items():
        for kind in KINDS:
            for count in lengths:
                few = {"taps": ["text.*.in", "text.*attn.[qkvo]*", "text.*ffn.*", "text.*.out"]} if count > 100 else {}
                yield _row(name, kind, f"{count}", partial(made_ids, count=count), steps=1, **few)
    for kind in KINDS:
        yield _row("tiny", kind, "pads", lambda loaded: pads, left_pads=[0, 6], steps=2)
    for name in ("tiny", "siglip-224"):
        pixels = torch.from_numpy(made_pixels(2, SIDES[name]))
        for kind in ("float32-eager", "tf32-eager", "bfloat16-eager", "bfloat16-sdpa", "autocast-bfloat16"):
            seen, spared = partial(with_images, images=2), {} if name == "tiny" else {"taps": SPARED}
            yield _row(name, kind, "images", seen, pixel_values=pixels, steps=1, **spared)
    for kind in ("float32-eager", "tf32-eager", "bfloat16-sdpa", "bfloat16-flex"):
        yield _row("synthetic:1b", kind, "16", partial(made_ids, count=16), steps=1)
    for name in PAIRS:
        for kind in ("float32-eager", "tf32-eager", "bfloat16-eager", "bfloat16-sdpa", "float16-sdpa"):
            yield _row(name, kind, "16", partial(made_ids, count=16), steps=1)
    for name in ("4b-pair", "27b-pair"):
        for dtype in ("float32", "bfloat16", "float16"):
            call = partial(write_on_ranks, name, dtype, 2)
            yield Row(f"cuda/{name}/{dtype}-2-gpus/9", dtype, name, call, device=DEVICE)


def _row(name, kind, what, ids, **how) -> Row:
    call = partial(write, name, kind, ids, **how)
    size = name.removeprefix("synthetic:")
    return Row(f"cuda/{size}/{kind}/{what}", KINDS[kind][0], size, call, device=DEVICE, plantable=True)
