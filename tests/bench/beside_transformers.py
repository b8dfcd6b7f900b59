"""Speed beside transformers float32 in one run: `python tests/bench/beside_transformers.py` (extra [witness]).

Prints prefill of 512 tokens with all logits and greedy decoding, as tokens a second and as a ratio. Each implementation
has a process of its own, since OpenMP settings are a process's; their runs alternate, and the best of each is taken,
since a shared machine only ever slows down.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEW, PREFILL, PROMPT = 64, 512, 32
sys.path[:0] = [str(ROOT), str(ROOT / "golden" / "make")]


def our_runs(held_as):
    """Return (prefill, decode) of this reference."""
    import ref  # isort: skip  # noqa: F401  before NumPy, as the command line does: it sets how threads wait
    import numpy as np

    from ref.model.cache import empty_cache
    from ref.model.generate import Sampling, generate
    from ref.model.text import How, forward
    from ref.weights.resolve import load

    loaded = load("270m", held_as)
    ids = loaded.tokenizer().encode((ROOT / "LICENSE").read_text())[:PREFILL]

    def prefill():
        forward(loaded.params, [ids], How(), empty_cache(loaded.params.config, np.zeros(1), PREFILL, np.float32))

    def decode():
        list(generate(loaded.params, [ids[:PROMPT]], NEW, Sampling(greedy=True), stop=()))

    return prefill, decode


def their_runs(_held_as):
    """Return (prefill, decode) of transformers, with its fused attention, on the same dequantised weights."""
    import torch
    import witness

    from ref.weights.export import config_to_hugging_face
    from ref.weights.package import package_file
    from ref.weights.resolve import load

    loaded = load("270m")
    model = witness.from_gguf(package_file(), config_to_hugging_face(loaded.params.config))
    model.set_attn_implementation("sdpa")
    ids = torch.tensor([loaded.tokenizer().encode((ROOT / "LICENSE").read_text())[:PREFILL]])

    @torch.inference_mode()
    def prefill():
        model(input_ids=ids, use_cache=True)

    @torch.inference_mode()
    def decode():
        model.generate(ids[:, :PROMPT], max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)

    return prefill, decode


def work(runs):
    """Answer each line on stdin, `0` prefill or `1` decode, with the seconds that one run took."""
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        runs[int(line)]()
        print(time.perf_counter() - start, flush=True)


def main():
    """Start both, alternate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-as", default="file")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--worker", choices=("ours", "theirs"))
    args = parser.parse_args()
    if args.worker:
        return work((our_runs if args.worker == "ours" else their_runs)(args.held_as))
    command = [sys.executable, __file__, "--held-as", args.held_as, "--worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    workers = [subprocess.Popen([*command, name], **pipes) for name in ("ours", "theirs")]
    for worker in workers:
        worker.stdout.readline()
    for run, (name, tokens) in enumerate((("prefill 512, all logits", PREFILL), ("decode 64 after 32", NEW))):
        best = [float("inf")] * 2
        for _ in range(args.rounds + 1):  # the first round compiles and warms up, and is the slowest
            for which, worker in enumerate(workers):
                print(run, file=worker.stdin, flush=True)
                best[which] = min(best[which], float(worker.stdout.readline()))
        ours, theirs = (tokens / seconds for seconds in best)
        print(f"{name:<24} {ours:7.1f} tok/s here ({args.held_as}), {theirs:7.1f} transformers: {ours / theirs:.2f}x")
    for worker in workers:
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    main()
