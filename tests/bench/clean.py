"""Judge clean captures: none may be called a bug. Not a test: it runs for many minutes.

python tests/bench/clean.py --transformers      captures transformers in each dtype and attention, judges each
python tests/bench/clean.py DUMP ...            judges dumps of any witness; WEIGHTS=DUMP says whose weights
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import ref
from ref.verify import compare
from ref.verify.sample import made_pixels

TEXTS = [
    "The capital of France is",
    Path("LICENSE").read_text()[:180],
    "def f(x):\n    return [x * i for i in range(10)]\n",
    "Γειά σου Κόσμε, 你好，世界, नमस्ते, 🙂",
]


def judged(name, dump, weights=None):
    """Judge one dump and print a line."""
    report = compare(dump, weights)
    worst = []
    for key in ("local_ratio", "inherited_ratio"):
        ratio, tap = max((row[key], row["tap"]) for row in report["taps"] if row[key] is not None)
        worst.append(f"{key.removesuffix('_ratio')} {ratio:.2f} {tap:<32}")
    first = report["first"] and report["first"]["tap"]
    print(f"{name:<44}{report['verdict']:<13}{' '.join(worst)} {first or ''}", flush=True)
    return report["verdict"]


def transformers_captures():
    """Capture transformers every way, one after the other; yields (name, folder)."""
    import torch

    from ref.verify.capture.transformers import capture
    from ref.verify.capture.transformers_model import build_model

    tokenizer, rng = ref.load("270m").tokenizer(), np.random.default_rng(1)
    toy = [5, 7, *[97] * 4, 9, 11, *[97] * 4, *rng.integers(3, 97, 12).tolist()]
    for weights, dtypes in (("270m", ("float32", "bfloat16")), ("tiny", ("float32", "bfloat16", "float16"))):
        for dtype in dtypes:
            for attention in ("eager", "sdpa"):
                model = build_model(weights, dtype, attention)
                if weights == "270m":
                    jobs = [(f"text{i}", tokenizer.encode(text), {}) for i, text in enumerate(TEXTS)]
                    jobs.append(("steps", tokenizer.encode(TEXTS[0]), {"steps": 3}))
                else:
                    jobs = [("images", toy, {"pixel_values": torch.from_numpy(made_pixels(2, 40))})]
                    jobs.append(("ring", rng.integers(3, 97, 9).tolist(), {"steps": 8}))
                    jobs.append(("pads", rng.integers(3, 97, (2, 15)), {"left_pads": [0, 6], "steps": 2}))
                    jobs += [(f"text{n}", rng.integers(3, 97, n).tolist(), {}) for n in (3, 40)]
                for job, ids, more in jobs:
                    with tempfile.TemporaryDirectory() as folder:
                        out = Path(folder) / "dump"
                        capture(model, np.array(ids), out, weights=weights, **more)
                        yield f"transformers {weights} {dtype} {attention} {job}", out
                        shutil.rmtree(out)


def main(argv):
    """Judge what is asked for; the number of each verdict comes last."""
    counts = {}
    if argv == ["--transformers"]:
        jobs = ((name, out, None) for name, out in transformers_captures())
    else:
        parts = [one.rpartition("=") for one in argv]
        jobs = ((Path(dump).name, dump, weights or None) for weights, _, dump in parts)
    for name, dump, weights in jobs:
        word = judged(name, dump, weights)
        counts[word] = counts.get(word, 0) + 1
    print(counts)
    return 0 if set(counts) == {"match"} else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
