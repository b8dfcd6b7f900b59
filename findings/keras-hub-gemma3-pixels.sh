#!/usr/bin/env bash
# keras-hub 0.32.0 loads Gemma 3 from a Hugging Face folder with pixels in [-1, -0.5] in the place of [-1, 1].
#
# Guessed before running: scale is rescale_factor / std, 2 / 255. Seen: it is rescale_factor * std, 0.5 / 255, so that white
# becomes -0.5. With mean and std of 0.5 the offset is right, and black is -1 in both: shapes and a black image hide it.
# Presets in keras-hub's own format hold a scale of their own and are not meant here.
#
# Needs Python 3.11 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 keras-hub==0.32.0 tensorflow-cpu==2.21.0 sentencepiece==0.2.3 safetensors==0.8.0
KERAS_BACKEND=torch "$folder/venv/bin/python" - "$folder" <<'PY'
import json
import pathlib
import sys

import numpy as np
from keras_hub.layers import Gemma3ImageConverter
from keras_hub.src.utils.transformers.convert_gemma3 import load_image_converter_config

released = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
(pathlib.Path(sys.argv[1]) / "preprocessor_config.json").write_text(json.dumps(released))
made = load_image_converter_config(sys.argv[1], {"vision_config": {"image_size": 8}})
converter = Gemma3ImageConverter(**made)
black, white = (float(np.ravel(converter(np.full((1, 8, 8, 3), level, np.uint8)).cpu())[0]) for level in (0, 255))
print(f"scale {made['scale'][0]:.6f}, wanted {2 / 255:.6f}; black {black}, white {white}")
assert (black, round(white, 5)) == (-1, -0.5), "another range now"
print("as found: white is -0.5")
PY
