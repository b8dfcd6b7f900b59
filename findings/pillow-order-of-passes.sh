#!/usr/bin/env bash
# Pillow 13.0.0 resizes tall images in another order of passes than 12.2.0, so that pixels differ.
#
# Guessed before running: resize gives the same bytes for years, and no version changes them in silence. Seen: up to
# 12.2.0 the pass along rows comes first. In 13.0.0 the one along columns does where the image is much higher than wide;
# since a pass rounds to 8 bits, some pixels move. Wide images are equal, so that a test with a landscape photo shows
# nothing. Golden images of a processor hold for one version of Pillow only.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 12.2.0 13.0.0; do
  "$folder/venv/bin/pip" install -q numpy==2.4.6 pillow==$version
  "$folder/venv/bin/python" - "$folder/$version.npz" <<'PY'
import sys

import numpy as np
from PIL import Image


def resized(height, width):
    """At once, and by two calls: rows first, columns first."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, bilinear = Image.fromarray(pixels), Image.Resampling.BILINEAR
    rows_first = image.resize((224, height), bilinear).resize((224, 224), bilinear)
    columns_first = image.resize((width, 224), bilinear).resize((224, 224), bilinear)
    return np.stack([image.resize((224, 224), bilinear), rows_first, columns_first])


np.savez(sys.argv[1], tall=resized(2000, 64), wide=resized(64, 2000))
PY
done
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

import numpy as np

old, new = (np.load(f"{sys.argv[1]}/{version}.npz") for version in ("12.2.0", "13.0.0"))
for name in ("tall", "wide"):
    off = np.abs(old[name][0].astype(int) - new[name][0])
    print(f"{name}: {(off > 0).mean():.1%} of values differ, by {off.max()} at most")
assert np.array_equal(old["wide"][0], new["wide"][0]), "wide images differ, too"
assert np.array_equal(old["tall"][0], old["tall"][1]), "12.2.0: not rows first"
assert np.array_equal(new["tall"][0], new["tall"][2]), "13.0.0: not columns first"
assert not np.array_equal(new["tall"][1], new["tall"][2]), "the order makes no difference"
print("as found: 13.0.0 begins with columns where the image is tall")
PY
