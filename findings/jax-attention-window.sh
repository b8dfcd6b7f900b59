#!/usr/bin/env bash
# jax 0.10.2: jax.nn.dot_product_attention(..., local_window_size=W, is_causal=True) sees W + 1 keys.
#
# Guessed before running: W keys, the query's own among them, which is what `sliding_window` of Gemma 3 means in
# google-deepmind/gemma and in transformers. Seen: the query's own and W before it. A port has to pass W - 1. It shows only
# on prompts longer than the window, which the tests of most ports do not reach.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import jax
import jax.numpy as jnp

tokens, window = 8, 4
keys = jnp.zeros((1, tokens, 1, tokens))
values = jnp.eye(tokens)[None, :, None, :]  # so that the output is the probabilities
probs = jax.nn.dot_product_attention(keys, keys, values, local_window_size=window, is_causal=True)[0, :, 0]
seen = (probs > 0).sum(axis=1).tolist()
print("keys seen by each query:", seen)
assert seen == [1, 2, 3, 4, 5, 5, 5, 5], "another window now"
print("as found: one key more than the window")
PY
