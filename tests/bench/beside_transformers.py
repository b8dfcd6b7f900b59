"""Speed beside transformers float32 in one run: `python tests/bench/beside_transformers.py` (extra [witness]).

Prints prefill of 512 tokens with all logits and greedy decoding, as tokens a second and as a ratio. Runs alternate, and
the best of each is taken, since a shared machine only ever slows down.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "golden" / "make")]

import witness  # noqa: E402

from ref.model.cache import empty_cache  # noqa: E402
from ref.model.generate import Sampling, generate  # noqa: E402
from ref.model.text import How, forward  # noqa: E402
from ref.weights.export import config_to_hugging_face  # noqa: E402
from ref.weights.resolve import load, package_file  # noqa: E402


def best(function, rounds):
    """Return the shortest time of several runs."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-as", default="file")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    loaded = load("270m", args.held_as)
    theirs = witness.from_gguf(package_file(), config_to_hugging_face(loaded.params.config))
    theirs.set_attn_implementation("sdpa")
    ids = loaded.tokenizer().encode((ROOT / "LICENSE").read_text())[:512]
    new = 64

    def our_prefill():
        cache = empty_cache(loaded.params.config, np.zeros(1), 512, np.float32)
        forward(loaded.params, [ids], How(), cache)

    @torch.inference_mode()
    def their_prefill():
        theirs(input_ids=torch.tensor([ids]), use_cache=True)

    def our_decode():
        list(generate(loaded.params, [ids[:32]], new, Sampling(greedy=True), stop=()))

    @torch.inference_mode()
    def their_decode():
        theirs.generate(torch.tensor([ids[:32]]), max_new_tokens=new, min_new_tokens=new, do_sample=False)

    print(f"held as {args.held_as}; torch {torch.get_num_threads()} threads")
    for name, ours, other, tokens in (
        ("prefill 512, all logits", our_prefill, their_prefill, 512),
        ("decode 64 after 32", our_decode, their_decode, new),
    ):
        ours(), other()
        mine = theirs_best = float("inf")
        for _ in range(args.rounds):
            mine, theirs_best = min(mine, best(ours, 1)), min(theirs_best, best(other, 1))
        rates = f"{tokens / mine:7.1f} tok/s here, {tokens / theirs_best:7.1f} transformers"
        print(f"{name:<24} {rates}, ratio {theirs_best / mine:.2f}")


if __name__ == "__main__":
    main()
