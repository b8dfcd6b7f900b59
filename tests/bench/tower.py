"""The full-size vision tower beside transformers' in one run: `python tests/bench/tower.py` (extra [witness]).

One image of 896 x 896 through 27 blocks and the projector, float32, synthetic weights of the 4B: time, peak memory, and
how far apart the two results are. Each implementation has a process of its own; the runs alternate, and the best of
each counts, since a shared machine only ever slows down.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import ROOT, in_process, peak_gigabytes, timed

sys.path[:0] = [str(ROOT / "golden" / "make")]
ROUNDS = 3


def ours():
    """Return a call that runs our tower."""
    from ref.golden_files.sampled import made_pixels
    from ref.model.vision import encode_images
    from ref.weights.resolve import load

    vision = load("synthetic:4b-pair", "float32").vision
    vision = vision._replace(layers=list(vision.layers))
    pixels = made_pixels(1, vision.config.image)
    return lambda: encode_images(vision, pixels)


def theirs():
    """Return a call that runs transformers' tower, with its fused attention."""
    import torch
    import witness_vision

    from ref.golden_files.sampled import made_pixels
    from ref.weights.resolve import load

    loaded = load("synthetic:4b-pair")
    model = witness_vision.from_params(loaded.params, loaded.vision)
    model.set_attn_implementation("sdpa")
    pixels = torch.from_numpy(made_pixels(1, loaded.vision.config.image))

    @torch.inference_mode()
    def run():
        return model.model.get_image_features(pixels).pooler_output.numpy()

    return run


def main():
    """Run both in turn, or with --part one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("ours", "theirs"))
    parser.add_argument("--out")
    args = parser.parse_args()
    if args.part:
        run = {"ours": ours, "theirs": theirs}[args.part]()
        seconds, result = timed(run)
        np.save(args.out, result)
        print(json.dumps({"first": seconds, "seconds": timed(run)[0], "peak": peak_gigabytes()}))
        return
    best, results = {}, {}
    for _ in range(ROUNDS):
        for part in ("ours", "theirs"):
            with tempfile.TemporaryDirectory() as folder:
                out = str(Path(folder) / "out.npy")
                row = in_process(__file__, "--part", part, "--out", out, ours=part == "ours")
                results[part] = np.load(out)
            if part not in best or row["seconds"] < best[part]["seconds"]:
                best[part] = row
            print(f"{part:<8}{row['seconds']:6.1f} s warm, {row['first']:6.1f} s first, peak {row['peak']:.2f} GB")
    a, b = results["ours"].astype(np.float64), results["theirs"].astype(np.float64)
    print(f"relative L2 of the soft tokens: {np.linalg.norm(a - b) / np.linalg.norm(b):.1e}")
    print(f"transformers / ours: {best['theirs']['seconds'] / best['ours']['seconds']:.2f}")


if __name__ == "__main__":
    main()
