"""Every size runs: `python tests/bench/sizes.py [4b 12b 27b ...]` on synthetic weights, float32, nothing on disk.

A prompt of 16 tokens, one image where the size sees, and one new token; prints seconds and peak memory of each, in a
process of its own. 27B is to stay below 8 GB.
"""

import argparse
import json

import numpy as np
from measure import in_process, peak_gigabytes, timed

PROMPT = 16


def run(size):
    """Run one size and return its row."""
    from ref.config import SOFT_TOKEN
    from ref.golden_files.sampled import made_pixels
    from ref.model.generate import Sampling, generate
    from ref.model.multimodal import Images
    from ref.weights.resolve import load

    loaded = load(f"synthetic:{size}")
    ids, images = [2, *range(1000, 1000 + PROMPT - 1)], None
    if loaded.vision:
        images = Images(loaded.vision, made_pixels(1, loaded.vision.config.image))
        ids[4:4] = [SOFT_TOKEN] * loaded.vision.config.soft_tokens
    steps = generate(loaded.params, [ids], 1, Sampling(greedy=True), images=images)
    seconds, new = timed(lambda: list(steps))
    return {"seconds": seconds, "tokens": len(ids), "new": int(np.ravel(new)[0]), "peak GB": peak_gigabytes()}


def main():
    """Run the sizes, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=["270m", "1b", "4b", "12b", "27b"])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(run(args.sizes[0])))
        return
    for size in args.sizes:
        row = in_process(__file__, size, "--here")
        print(f"{size:>5}", ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v:,}" for k, v in row.items()))


if __name__ == "__main__":
    main()
