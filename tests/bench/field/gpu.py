"""Captures on a GPU, made by one command on a machine that has one; kept, they are rows like any other.

python -m tests.bench.field.gpu --out FOLDER [--only GLOB] [--no-jax]     in the checkout; torch, transformers, jax
"""

import argparse
import shutil
import sys
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .row import Row
from .subjects import made_ids, subject, weights

KEPT = Path(__file__).parent / "gpu"  # dumps that were fetched from there
# every product with its inputs; scores and probabilities can be made of what is left
TAPS = ["text.embed", "text.layer.*.in", "text.layer.*.attn.[qkvmo]*", "text.layer.*.attn.*_norm", "text.layer.*.mid"]
TAPS += ["text.layer.*.ffn.*", "text.layer.*.out", "text.layer.*.cache.*", "text.final_norm", "text.logits"]


class Job(NamedTuple):
    """What is captured once.

    Args:
        size: of the model.
        kind: which layers: local, global or pair.
        tokens: of the prompt; one cached step follows.
        dtype: of the model.
        matmul_tf32: torch's flag for products of matrices.
        conv_tf32: the same for convolutions.
        attention: eager or sdpa.
    """

    size: str
    kind: str
    tokens: int
    dtype: str
    matmul_tf32: bool = False
    conv_tf32: bool = True
    attention: str = "eager"

    @property
    def name(self) -> str:
        """Name the folder."""
        tf32 = "-tf32" if self.matmul_tf32 else ""
        return f"{self.size}-{self.kind}-{self.tokens}-{self.dtype}{tf32}-{self.attention}"


JOBS = [
    Job(size, "pair", tokens, dtype, tf32)
    for size in ("1b", "4b")
    for dtype, tf32 in (("float32", False), ("float32", True), ("bfloat16", False), ("float16", False))
    for tokens in (1, 3, 16)
]


def capture_jobs(jobs: list[Job], out: Path, device: str = "cuda") -> None:
    """Capture each job with transformers on a device into a folder of its own below `out`."""
    import torch

    from ref.capture.transformers import capture

    for job in jobs:
        torch.set_float32_matmul_precision("high" if job.matmul_tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = job.conv_tf32
        loaded, model = subject(f"{job.size}-{job.kind}", job.dtype)
        model.set_attn_implementation(job.attention)
        ids = made_ids(loaded, job.tokens)
        capture(model.to(device), ids, out / job.name, weights=loaded.name, taps=TAPS, steps=1)
        print(job.name, f"{size_of(out / job.name)[0] / 1e6:.1f} MB", flush=True)


def capture_jax(jobs: list[Job], out: Path) -> None:
    """Capture the float32 jobs with jax.numpy at the default precision, and at `highest` where TF32 is off."""
    from ref.model.taps import Recorder

    from .jax_layer import capture

    for job in jobs:
        if job.dtype == "float32":
            loaded, precision = weights(f"{job.size}-{job.kind}"), "default" if job.matmul_tf32 else "highest"
            name = f"jax-{job.size}-{job.kind}-{job.tokens}-float32-{precision}"
            capture(loaded, made_ids(loaded, job.tokens), out / name, precision, Recorder(*TAPS).wants)
            print(name, f"{size_of(out / name)[0] / 1e6:.1f} MB", flush=True)


def size_of(folder: Path) -> tuple[int, int]:
    """Return the bytes of a folder and of its largest file."""
    sizes = [file.stat().st_size for file in folder.iterdir()]
    return sum(sizes), max(sizes)


def write(kept: Path, folder: Path, plant=None):
    """Copy a dump that is kept, and return its weights."""
    shutil.copytree(kept, folder)
    return weights(subject_of(kept.name))


def subject_of(name: str) -> str:
    """Return the subject of a kept dump."""
    return "-".join(name.removeprefix("jax-").split("-")[:2])


def rows(folder: Path = KEPT):
    """Yield a row for every dump that is kept."""
    for kept in sorted(folder.glob("*/dump.json")):
        name = kept.parent.name
        dtype = next(part for part in name.split("-") if "float" in part)
        yield Row(f"gpu/{name}", dtype, subject_of(name), partial(write, kept.parent), device="gpu")


def main(argv: list[str]) -> int:
    """Capture into a folder; say which files are too large to be kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="*", metavar="GLOB")
    parser.add_argument("--no-jax", action="store_true")
    parser.add_argument("--device", default="cuda", help="cpu to try it without a GPU")
    args = parser.parse_args(argv)
    jobs = [job for job in JOBS if fnmatch(job.name, args.only)]
    capture_jobs(jobs, args.out, args.device)
    if not args.no_jax:
        capture_jax(jobs, args.out)
    large = [folder.name for folder in args.out.iterdir() if size_of(folder)[1] > 16e6]
    print(f"{len(list(args.out.iterdir()))} dumps; over 16 MB a file: {', '.join(large) or 'none'}")
    return int(bool(large))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
