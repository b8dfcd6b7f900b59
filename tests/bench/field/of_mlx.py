"""MLX: needs mlx[cpu]==0.32.4 and mlx-lm==0.32.2.

mlx-lm scales embeddings by a factor rounded to bfloat16 also in float32: a true difference, mended here, since rows are
of clean runs.
"""

from contextlib import nullcontext
from functools import partial

from support.mlx_models import scale_in_float32

from ref.capture.mlx import capture
from ref.capture.mlx.model import build_from

from .foreign import needs
from .real import encoded
from .row import Row
from .subjects import made_ids, weights

VERSION = "mlx[cpu]==0.32.4 mlx-lm==0.32.2"


def write(name, dtype, ids_of, steps, folder, plant=None):
    """Capture a subject: the prompt and greedy cached steps; return the weights."""
    needs("mlx.core", "mlx_lm", version=VERSION)
    loaded = weights(name)
    with scale_in_float32() if dtype == "float32" else nullcontext():
        capture(build_from(loaded, dtype), ids_of(loaded), folder, steps=steps, weights=loaded.name)
    return loaded


def rows():
    """Yield the rows."""
    for name in ("270m", "1b-pair", "tiny"):
        for dtype in ("float32", "bfloat16"):
            jobs = {f"{n}": (partial(made_ids, count=n), 0) for n in (3, 16)}
            jobs["steps"] = (partial(made_ids, count=13), 2)
            if name == "270m":
                jobs = {t: ((lambda loaded, t=t: encoded(t)), 0) for t in ("france", "licence", "long")} | jobs
            for what, (ids, steps) in jobs.items():
                call = partial(write, name, dtype, ids, steps)
                yield Row(f"mlx/{name}/{dtype}/{what}", dtype, name, call)
