"""What a capture of transformers costs beside its forward: `python tests/bench/capture.py` (extra [witness]).

The real 270M in eager attention, every tap but scores and probabilities. Time: forward and capture alternate in one
process, and the best of each counts, since a shared machine only ever slows down; once by the clock, once by what the
process had of its cores. Memory: each in a process of its own, the most that it held while it ran, beyond what the
other held, beside the size of one layer's taps. With `--device cuda`, the most that torch had
allocated there.

    python tests/bench/capture.py [--tokens 6 128 640] [--dtypes float32 bfloat16] [--rounds 5]
"""

import argparse
import json
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from measure import in_process

LEFT_OUT = (".scores", ".probs")


class Runs:
    """A model, and both ways to run it.

    Args:
        weights: as `--weights` names them.
        dtype: of weights and arithmetic.
        device: of torch.
        folder: for dumps.
    """

    def __init__(self, weights, dtype, device, folder):
        import torch

        from ref.capture.transformers import build_model
        from ref.model.taps import tap_names

        self.torch, self.device, self.folder = torch, device, folder
        self.weights, self.model = weights, build_model(weights, dtype, "eager").to(device)
        self.text = [2, *range(1000, 1000 + 4096)]  # which tokens does not matter
        self.layer = [one for one in tap_names(1) if one.startswith("text.layer.") and not one.endswith(LEFT_OUT)]
        names = tap_names(self.model.config.num_hidden_layers)
        self.taps = [one for one in names if not one.endswith(LEFT_OUT)]

    def forward(self, tokens):
        """Run the model alone."""
        ids = self.torch.tensor([self.text[:tokens]], device=self.device)
        with lasting(self.wait) as self.lasted, self.torch.no_grad():
            self.model(input_ids=ids, use_cache=False)

    def capture(self, tokens):
        """Run it and write a dump."""
        from ref.capture.transformers import capture

        shutil.rmtree(self.folder, ignore_errors=True)
        with lasting(self.wait) as self.lasted:
            capture(self.model, self.text[:tokens], self.folder, weights=self.weights, taps=self.taps)

    def of_a_layer(self):
        """Return the bytes of one layer's taps in the last capture."""
        from ref.dump.write import load_pass, read_dump

        [one] = read_dump(self.folder)["passes"]
        one["tensors"] = {name: one["tensors"][name] for name in self.layer}
        return sum(value.nbytes for value in load_pass(self.folder, one).values())

    def wait(self):
        """Wait for the device."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()


@contextmanager
def lasting(wait):
    """Give a list that holds the seconds by the clock and of the process's cores, once the statement has ended."""
    found, start, cores = [], time.perf_counter(), time.process_time()
    yield found
    wait()
    found += [time.perf_counter() - start, time.process_time() - cores]


def times(args, dtype, folder):
    """Yield tokens and, of forward and of capture, the best seconds of alternating runs."""
    runs = Runs(args.weights, dtype, args.device, folder)
    for tokens in args.tokens:
        best = np.full((2, 2), np.inf)
        for _ in range(args.rounds + 1):  # the first one warms up, and is the slowest
            for which, run in enumerate((runs.forward, runs.capture)):
                run(tokens)
                best[which] = np.minimum(best[which], runs.lasted)
        yield tokens, best


def peak(args, folder):
    """Return what one process holds at most while it runs, and the bytes of a layer's taps."""
    runs, [tokens] = Runs(args.weights, args.dtypes[0], args.device, folder), args.tokens
    getattr(runs, args.part)(6)  # what is made once
    forget_peak(runs)
    getattr(runs, args.part)(tokens)
    return {"peak": most_held(runs), "layer": runs.of_a_layer() if args.part == "capture" else 0}


def forget_peak(runs):
    """Begin to watch memory."""
    if runs.device == "cuda":
        runs.torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux; VmHWM begins at what is held now


def most_held(runs):
    """Return the most bytes that were held since `forget_peak`."""
    if runs.device == "cuda":
        return runs.torch.cuda.max_memory_allocated()
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


def main():
    """Measure and print, or with --part one run's memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[6, 128, 640])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", default="270m", help="as the command line takes them")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--part", choices=("forward", "capture"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.part:
            print(json.dumps(peak(args, Path(folder) / "dump")))
            return
        for dtype in args.dtypes:
            for tokens, best in times(args, dtype, Path(folder) / "dump"):
                print(row(args, dtype, tokens, best), flush=True)


def row(args, dtype, tokens, best):
    """Say what a capture costs."""
    given = ("--weights", args.weights, "--dtypes", dtype, "--tokens", str(tokens), "--device", args.device, "--part")
    alone, heard = (in_process(__file__, *given, part) for part in ("forward", "capture"))
    clock, cores = best[1] / best[0]
    more, megabyte = heard["peak"] - alone["peak"], 1e6
    return (
        f"{dtype} {tokens} tokens: forward {best[0][0]:.3f} s, capture {best[1][0]:.3f} s, {clock:.2f} x; of the cores "
        f"{best[0][1]:.3f} s, {best[1][1]:.3f} s, {cores:.2f} x; {alone['peak'] / megabyte:.0f} MB, "
        f"{more / megabyte:+.1f} MB by the capture, a layer's taps {heard['layer'] / megabyte:.1f} MB"
    )


if __name__ == "__main__":
    main()
