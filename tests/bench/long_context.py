"""Long context at full width has the values that it must have: `python tests/bench/long_context.py [PART ...]`.

local    131,072 tokens through one local layer of the 4B; beside the last tokens alone, over their window
global   the last 64 tokens through a global layer of the 4B over 131,072 keys (RoPE factor 8); beside float64
tiny     the whole toy model at 16,384 tokens; beside float64

Prints how far apart they are. What it takes is measured by `python -m tests.bench 'growth-*'`.
"""

import sys

import numpy as np

from ref.model.block import block
from ref.model.cache import LayerCache
from ref.model.taps import SILENCE
from ref.model.text import How, forward, place_tokens
from ref.ops import DEFINITION, KERNEL
from ref.weights.resolve import load

TOKENS, LAST, TINY_TOKENS = 131_072, 64, 16_384


def pair():
    """Return the configuration and layers of one local and one global layer of the 4B, held as bfloat16."""
    params = load("synthetic:4b-pair").params
    return params.config, list(params.layers)


def rows(count, width, seed):
    """Draw a residual stream; the generator is counter-based, so that no other array is needed."""
    generator = np.random.Generator(np.random.Philox(seed))
    return generator.standard_normal((1, count, width), np.float32)


def local():
    """Run the local layer; a token sees one window back, so the second half of two windows needs nothing else."""
    config, layers = pair()
    x = rows(TOKENS, config.width, 1)
    place = place_tokens(config, 0, np.zeros((1, TOKENS), np.int64), 0, How())
    out, _ = block(x, layers[0], place, None, config, KERNEL, SILENCE)
    tail, half = 2 * config.window, config.window
    shifted = place._replace(
        cos=place.cos[:, -tail:],
        sin=place.sin[:, -tail:],
        visible=np.maximum(place.visible[:, -tail:] - (TOKENS - tail), 0),
        positions=place.positions[:, -tail:],
    )
    alone, _ = block(x[:, -tail:], layers[0], shifted, None, config, KERNEL, SILENCE)
    return np.abs(alone[:, half:] - out[:, -half:]).max() / np.abs(out[:, -half:]).max()


def last_queries():
    """Run the last tokens through a global layer whose cache holds all keys before them."""
    config, layers = pair()
    x = rows(LAST, config.width, 2)
    shape = (1, TOKENS, config.kv_heads, config.head_dim)
    k, v = (rows(TOKENS, config.kv_heads * config.head_dim, seed).reshape(shape) for seed in (3, 4))
    first, before = np.zeros((1, LAST), np.int64), TOKENS - LAST

    def run(ops, dtype):
        cache = LayerCache(k.astype(dtype), v.astype(dtype), np.arange(TOKENS)[None], before)
        place = place_tokens(config, 1, first, before, How(dtype=dtype))
        return block(x.astype(dtype), layers[1], place, cache, config, ops, SILENCE)[0]

    return apart(run(KERNEL, np.float32), run(DEFINITION, np.float64))


def tiny():
    """Run the whole toy model at length."""
    params = load("tiny").params
    params = params._replace(layers=list(params.layers))
    ids = np.random.default_rng(5).integers(0, params.config.vocabulary, (1, TINY_TOKENS))
    return apart(forward(params, ids)[0], forward(params, ids, How(dtype=np.float64))[0])


def apart(out, truth):
    """Return the relative L2 distance."""
    return np.linalg.norm(out - truth) / np.linalg.norm(truth)


PARTS = {"local": local, "global": last_queries, "tiny": tiny}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        print(f"{name:<8}{PARTS[name]():.1e}", flush=True)
