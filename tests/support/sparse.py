"""Random subsets of the taps of clean passes, and the same with one tap corrupted."""

from functools import cache

import numpy as np
from support.judged import cached_passes

LENGTHS = ((6,), (5, 1), (4, 1, 1), (3, 4, 1), (1, 1), (9, 2, 1))  # tokens of each pass
DTYPES = ("float32", "bfloat16", "float16")
made = cache(cached_passes)


def drawn(seed):
    """Draw passes and a subset of their taps: few, many, whole layers, whole kinds, nothing of some passes."""
    rng = np.random.default_rng(seed)
    passes = made(LENGTHS[rng.integers(len(LENGTHS))], DTYPES[rng.integers(len(DTYPES))])
    share = rng.choice([0.01, 0.05, 0.3, 0.9, 1.0], size=len(passes.taps))
    kept = [[tap for tap in taps if rng.random() < p] for taps, p in zip(passes.taps, share, strict=True)]
    layer, kind = rng.integers(6), rng.choice(["attn.mix", "cache.k", "out", "ffn.act", "attn.scores", "k_rope"])
    for number in np.flatnonzero(rng.random(len(kept)) < 0.3):
        kept[number] = [tap for tap in passes.taps[number] if f"layer.{layer}." in tap or tap.endswith(kind)]
    for number in np.flatnonzero(rng.random(len(kept)) < 0.2):
        kept[number] = []
    if not any(kept):
        kept[-1] = ["text.logits"]
    return passes, kept, rng


def corrupted(passes, kept, rng):
    """Change one tap that is kept; of many values all, so that no floor hides it."""
    number = int(rng.choice([i for i, taps in enumerate(kept) if taps]))
    tap = str(rng.choice(kept[number]))
    value = passes.taps[number][tap]
    wrong = ~value if value.dtype == bool else value + 1 if value.dtype.kind == "i" else value * np.float32(1.5) + 1
    taps = [dict(one) for one in passes.taps]
    taps[number][tap] = wrong
    return passes._replace(taps=taps), number, tap
