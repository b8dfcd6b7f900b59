#!/usr/bin/env bash
# transformers 5.23.0: a photo given as a path is turned by its EXIF orientation; the same photo opened by Pillow is not.
#
# Guessed before running: path and Image.open(path) are two spellings of one image. Seen: the processor of Gemma 3 turns
# the first and not the second, so that pixels differ by a quarter turn. Most photos from phones carry the tag. Two
# ports that are fed "the same file" differ in every soft token, and synthetic test images never show it.
#
# Needs Python 3.11 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import pathlib
import sys

import numpy as np
from PIL import Image
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

path = str(pathlib.Path(sys.argv[1]) / "photo.png")
pixels = np.zeros((40, 60, 3), np.uint8)
pixels[:20] = 255  # the upper half is white
exif = Image.Exif()
exif[0x0112] = 6  # turn by 90 degrees to show it
Image.fromarray(pixels).save(path, exif=exif)
process = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
by_path, opened = (process(image, return_tensors="np")["pixel_values"][0, 0] for image in (path, Image.open(path)))
print("corners, by path:", by_path[[0, 0, -1, -1], [0, -1, 0, -1]], "opened:", opened[[0, 0, -1, -1], [0, -1, 0, -1]])
assert not np.array_equal(by_path, opened), "both are the same now"
assert np.abs(by_path - np.rot90(opened, -1)).max() < 0.05, "another turn now"
print("as found: only the path is turned")
PY
