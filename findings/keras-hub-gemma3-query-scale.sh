#!/usr/bin/env bash
# keras-hub 0.32.0 takes `query_head_dim_normalize=False` for Gemma 3, as its converter gives it for the 27B, and ignores it.
#
# Guessed before running: a backbone made with False divides scores by sqrt(hidden_dim // num_query_heads), as its docstring
# says, and one with True by sqrt(head_dim). Seen: both are equal bit for bit; the configuration says False, and each block
# tells its attention True. Set at the attentions themselves, it works. Only the 27B has False (168 in the place of 128):
# its scores are 1.146 times too large, and text stays fluent.
#
# Needs Python 3.11 or newer and a package index; installs TensorFlow. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras-hub==0.32.0 keras==3.15.1 tensorflow-cpu==2.21.0 numpy==2.4.6
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PY'
import keras
import numpy as np
from keras_hub.models import Gemma3Backbone

SIZES = {"num_layers": 2, "num_query_heads": 2, "num_key_value_heads": 1, "hidden_dim": 48, "intermediate_dim": 64}
IDS = np.array([[2, 5, 9, 7, 3, 8]])
INPUTS = {"token_ids": IDS, "padding_mask": np.ones_like(IDS)}


def made(by_head):
    keras.utils.set_random_seed(0)
    how = {"use_query_key_norm": True, "head_dim": 8, "image_size": None, "vocabulary_size": 16}
    return Gemma3Backbone(**SIZES, **how, query_head_dim_normalize=by_head)


def run(model):
    return np.asarray(model(INPUTS))


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


by_head, by_width = made(True), made(False)
attentions = [block.attention for block in by_width.transformer_layers]
told = {one.query_head_dim_normalize for one in attentions}
print("the backbone says", by_width.query_head_dim_normalize, "and its attentions", told)
before = run(by_width)
assert by_width.query_head_dim_normalize is False and told == {True}, "the argument arrives now"
assert (before == run(by_head)).all(), "it changes the result now"
for one in attentions:
    one.query_head_dim_normalize = False
print(f"set at the attentions, the result moves by {distance(run(by_width), before):.3f}")
assert distance(run(by_width), before) > 1e-3, "the two scales are alike here"
print("as found: the argument changes nothing")
PY
