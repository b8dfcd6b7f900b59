"""The tower's ops at full size beside torch's: `python tests/bench/vision_kernels.py` (extra [witness]).

Float32, 4096 patches, width 1152, 16 heads of 72, FFN 4304. Both run in one process, in turn, and the best of each
counts, since a shared machine only ever slows down. `ref` comes first: it sets how threads wait, and OpenMP reads that
when torch loads it. The last line is what 27 blocks would take of each. `--threads 1` compares single cores, and
`--only attend` one op.
"""

# ruff: noqa: E402
import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from ref.ops import KERNEL  # isort: skip
import numba
import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits

P, D, N, FFN, EPS, BLOCKS = 4096, 1152, 16, 4304, 1e-6, 27
SCALE = (D // N) ** -0.5


def made(seed, *shape):
    """Return normal numbers of float32, and the same memory as a tensor."""
    x = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return x, torch.from_numpy(x)


def cases():
    """Return {op: (times in a block, our call, torch's call)}."""
    (x, x_t), (wide, wide_t) = made(0, 1, P, D), made(1, 1, P, FFN)
    (gain, gain_t), (bias, bias_t) = made(2, D), made(3, FFN)
    (square, square_t), (up, up_t), (down, down_t) = made(4, D, D), made(5, FFN, D), made(6, D, FFN)
    (q, q_t), (k, k_t), (v, v_t) = (made(seed, 1, P, N, D // N) for seed in (7, 8, 9))
    visible, heads = np.broadcast_to([0, P], (1, P, 2)), [a.transpose(1, 2) for a in (q_t, k_t, v_t)]

    def attention():
        return F.scaled_dot_product_attention(*heads, scale=SCALE).transpose(1, 2)

    def layer_norm():
        return F.layer_norm(x_t, (D,), gain_t, gain_t, EPS)

    return {
        "layer_norm": (2, lambda: KERNEL.layer_norm(x, gain, gain, EPS), layer_norm),
        "linear 1152 to 1152": (4, lambda: KERNEL.linear(x, square, gain), lambda: F.linear(x_t, square_t, gain_t)),
        "attend": (1, lambda: KERNEL.attend(q, k, v, visible, SCALE), attention),
        "linear 1152 to 4304": (1, lambda: KERNEL.linear(x, up, bias), lambda: F.linear(x_t, up_t, bias_t)),
        "gelu": (1, lambda: KERNEL.gelu(wide), lambda: F.gelu(wide_t, approximate="tanh")),
        "linear 4304 to 1152": (1, lambda: KERNEL.linear(wide, down, gain), lambda: F.linear(wide_t, down_t, gain_t)),
    }


def best_of(rounds, calls):
    """Return the best time of each call, run in turn, and how far the results are apart, relative to the largest."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds + 1):  # the first round compiles and warms up
        results = []
        for i, call in enumerate(calls):
            start = time.perf_counter()
            results.append(call())
            best[i] = min(best[i], time.perf_counter() - start)
    ours, theirs = (np.asarray(result) for result in results)
    return best, np.abs(ours - theirs).max() / np.abs(theirs).max()


def main():
    """Print a line an op, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=numba.config.NUMBA_NUM_THREADS)
    parser.add_argument("--only", default="", help="only ops whose name contains this")
    args = parser.parse_args()
    numba.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    sums = np.zeros(2)
    with torch.inference_mode(), threadpool_limits(args.threads, "blas"):
        for name, (times, *calls) in cases().items():
            if args.only in name:
                best, apart = best_of(args.rounds, calls)
                sums += times * np.array(best)
                here, torch_s = (1e3 * seconds for seconds in best)
                print(
                    f"{times} x {name:<20}{here:8.1f} ms{torch_s:8.1f} torch{torch_s / here:7.2f}x   {apart:.0e} apart"
                )
    here, torch_s = BLOCKS * sums
    print(f"{BLOCKS} blocks {'':<15}{here:8.2f} s {torch_s:8.2f} torch{torch_s / here:7.2f}x")


if __name__ == "__main__":
    main()
