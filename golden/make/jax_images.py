"""Run in an environment with jax and google-deepmind/gemma, which the others cannot share; writes what they read.

python golden/make/jax_images.py --vectors               writes golden/make/jax_resize.json
python golden/make/jax_images.py --pictures IN OUT       called by images.py --jax: each array of IN through gemma's
                                                         pre_process_image, in float32 and in float64 throughout

Nothing of `ref/` is imported.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

HERE = Path(__file__).resolve().parent
SIZE = 896
# (comment, height, width, height wanted, width wanted); small, since all values are kept
SIZES = [
    ("a line of 7 pixels to 3: the outer ones have the edge's weights", 1, 7, 1, 3),
    ("a column of 5 pixels to 2", 5, 1, 2, 1),
    ("3 pixels to 7: growing, the edges are repeated", 1, 3, 1, 7),
    ("5 x 4 to 2 x 3: both shrink", 5, 4, 2, 3),
    ("2 x 5 to 5 x 3: one grows, one shrinks", 2, 5, 5, 3),
    ("3 x 3 to 3 x 2: a side that stays", 3, 3, 3, 2),
    ("4 x 6 to 1 x 1: weighted towards the middle", 4, 6, 1, 1),
    ("1 x 1 to 3 x 2", 1, 1, 3, 2),
]


def resize(image, height, width):
    return np.asarray(jax.image.resize(image, (height, width, image.shape[2]), "bilinear", antialias=True))


def vectors():
    """Resize random bytes, as float64 with jax in float64."""
    random = np.random.default_rng(20)
    rows = []
    for comment, Y, X, height, width in SIZES:
        image = random.integers(0, 256, (Y, X, 2)).astype(np.float64)
        with jax.enable_x64(True):
            out = resize(image, height, width)
        assert out.dtype == np.float64
        rows.append(
            {"comment": comment, "image": image.tolist(), "height": height, "width": width, "expected": out.tolist()}
        )
    head = {"jax": version("jax"), "command": "python golden/make/jax_images.py --vectors"}
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "jax_resize.json").write_text(json.dumps(head)[:-1] + ', "rows": [\n' + lines + "\n]}\n")


def pictures(source, out):
    """Preprocess each picture twice; `NAME` is float64, `NAME.float32` what gemma itself returns."""
    from gemma.gm.vision._preprocess import pre_process_image

    shape, made = (SIZE, SIZE, 3), {}
    for name, image in np.load(source).items():
        made[f"{name}.float32"] = np.asarray(pre_process_image(image, image_shape=shape))
        with jax.enable_x64(True):
            made[name] = np.asarray(pre_process_image(image.astype(np.float64), image_shape=shape))
        assert (made[f"{name}.float32"].dtype, made[name].dtype) == (np.float32, np.float64)
    np.savez(out, versions=np.array([version("gemma"), version("jax")]), **made)


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", action="store_true")
    parser.add_argument("--pictures", nargs=2, metavar=("IN", "OUT"))
    args = parser.parse_args()
    if args.vectors:
        vectors()
    if args.pictures:
        pictures(*args.pictures)


if __name__ == "__main__":
    main()
