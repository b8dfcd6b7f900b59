"""Long context at full width, memory bounded: `python tests/bench/long_context.py [--part local|global|tiny]`.

local    a whole prefill of 131,072 tokens through one local layer of the 4B
global   the last 64 tokens through a global layer of the 4B over a cache of 131,072 keys (RoPE factor 8)
tiny     the whole toy model at 16,384 tokens, beside its own float64 run

Each part has a process of its own and prints seconds and peak memory.
"""

import argparse
import json

import numpy as np
from measure import in_process, peak_gigabytes, timed

TOKENS, LAST, TINY_TOKENS = 131_072, 64, 16_384


def pair():
    """Return the configuration and layers of one local and one global layer of the 4B, held as bfloat16."""
    from ref.weights.resolve import load

    params = load("synthetic:4b-pair").params
    return params.config, list(params.layers)


def rows(count, width, seed):
    """Draw a residual stream; the generator is counter-based, so that no other array is needed."""
    generator = np.random.Generator(np.random.Philox(seed))
    return generator.standard_normal((1, count, width), np.float32)


def local():
    """Run the local layer; return what it is checked by: the last tokens alone, over their window, give the same."""
    from ref.model.block import block
    from ref.model.taps import SILENCE
    from ref.model.text import How, place_tokens
    from ref.ops import KERNEL

    config, layers = pair()
    x = rows(TOKENS, config.width, 1)
    first = np.zeros((1, TOKENS), np.int64)
    place = place_tokens(config, 0, first, 0, How())
    seconds, (out, _) = timed(lambda: block(x, layers[0], place, None, config, KERNEL, SILENCE))
    tail = 2 * config.window  # a token sees one window back, so the second half needs nothing else
    shifted = place._replace(
        cos=place.cos[:, -tail:],
        sin=place.sin[:, -tail:],
        visible=np.maximum(place.visible[:, -tail:] - (TOKENS - tail), 0),
        positions=place.positions[:, -tail:],
    )
    alone, _ = block(x[:, -tail:], layers[0], shifted, None, config, KERNEL, SILENCE)
    half = config.window
    error = np.abs(alone[:, half:] - out[:, -half:]).max() / np.abs(out[:, -half:]).max()
    return {"seconds": seconds, "tokens": TOKENS, "against the tail alone": float(error)}


def last_queries():
    """Run the last tokens through a global layer whose cache holds all keys before them, and compare with float64."""
    from ref.model.block import block
    from ref.model.cache import LayerCache
    from ref.model.taps import SILENCE
    from ref.model.text import How, place_tokens
    from ref.ops import DEFINITION, KERNEL

    config, layers = pair()
    x = rows(LAST, config.width, 2)
    shape = (1, TOKENS, config.kv_heads, config.head_dim)
    k, v = (rows(TOKENS, config.kv_heads * config.head_dim, seed).reshape(shape) for seed in (3, 4))
    first, before = np.zeros((1, LAST), np.int64), TOKENS - LAST

    def run(ops, dtype):
        cache = LayerCache(k.astype(dtype), v.astype(dtype), np.arange(TOKENS)[None], before)
        place = place_tokens(config, 1, first, before, How(dtype=dtype))
        return block(x.astype(dtype), layers[1], place, cache, config, ops, SILENCE)[0]

    run(KERNEL, np.float32)  # compiles
    seconds, out = timed(lambda: run(KERNEL, np.float32))
    peak = peak_gigabytes()
    truth = run(DEFINITION, np.float64)
    error = np.linalg.norm(out - truth) / np.linalg.norm(truth)
    return {"seconds": seconds, "queries": LAST, "keys": TOKENS, "peak": peak, "against float64": float(error)}


def tiny():
    """Run the whole toy model at length, in float32 and float64."""
    from ref.model.text import How, forward
    from ref.weights.resolve import load

    params = load("tiny").params
    params = params._replace(layers=list(params.layers))
    ids = np.random.default_rng(5).integers(0, params.config.vocabulary, (1, TINY_TOKENS))
    forward(params, ids[:, :64])  # compiles
    seconds, (logits, _) = timed(lambda: forward(params, ids))
    peak = peak_gigabytes()
    truth, _ = forward(params, ids, How(dtype=np.float64))
    error = np.linalg.norm(logits - truth) / np.linalg.norm(truth)
    return {"seconds": seconds, "tokens": TINY_TOKENS, "peak": peak, "against float64": float(error)}


PARTS = {"local": local, "global": last_queries, "tiny": tiny}


def main():
    """Run all parts, each in a process of its own, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        row = PARTS[args.part]()
        print(json.dumps({"peak": peak_gigabytes()} | row))
        return
    for part in [args.part] if args.part else PARTS:
        row = in_process(__file__, "--part", part, "--here")
        print(part, ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v:,}" for k, v in row.items()))


if __name__ == "__main__":
    main()
