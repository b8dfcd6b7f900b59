#!/usr/bin/env bash
# mlx-lm 0.32.2 loses the RoPE factor 8 of a Gemma 3 whose config was saved by transformers 5.
#
# Guessed before running: a config.json is a config.json, so that 4B and up keep positions / 8 in global layers. Seen:
# transformers 5 writes `rope_parameters` (one per kind of layer) and no `rope_scaling`, which is the key that mlx-lm's
# Gemma 3 looks up; it finds none and takes factor 1. A model that was fine-tuned and saved again attends wrongly in every
# sixth layer, without a word; the official files, which have the old key, are right.
#
# Needs Linux on x86-64 or a Mac, Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
extra=""; [ "$(uname)" = Linux ] && extra="[cpu]"
"$folder/venv/bin/pip" install -q "mlx$extra==0.32.4" mlx-lm==0.32.2 transformers==5.23.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import json
import pathlib
import sys

from mlx_lm.models import gemma3_text
from mlx_lm.utils import load_config
from transformers import Gemma3TextConfig

scaling = {"rope_type": "linear", "factor": 8.0}
small = dict(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=2, head_dim=16)
Gemma3TextConfig(**small, rope_scaling=scaling).save_pretrained(sys.argv[1])
config = load_config(pathlib.Path(sys.argv[1]))
print(json.dumps(config["rope_parameters"]), "rope_scaling" in config)


def scale(config):
    model = gemma3_text.Gemma3Model(gemma3_text.ModelArgs.from_dict(config))
    return model.layers[5].self_attn.rope.scale


print("scale of positions:", scale(config), "with the old key:", scale({**config, "rope_scaling": scaling}))
assert config["rope_parameters"]["full_attention"]["factor"] == 8
assert scale({**config, "rope_scaling": scaling}) == 1 / 8
assert scale(config) == 1, "the new key is read now"
print("as found: the factor is lost")
PY
