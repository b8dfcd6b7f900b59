#!/usr/bin/env bash
# safetensors 0.8.0 writes a transposed NumPy array with its values in the wrong places, without a word.
#
# Guessed before running: it copies the array into C order, or refuses it, as its torch half does ("You are trying to save
# a non contiguous tensor"). Seen: the memory is written as it lies, under the shape of the transposed array. The file is
# valid and its values are all there, in another order. It hits a port that dumps `w.T`, a view of heads such as
# `q.transpose(1, 0, 2)`, or an array in Fortran order. np.ascontiguousarray before saving is the cure.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 safetensors==0.8.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import numpy as np
from safetensors.numpy import load, save

square = np.arange(6, dtype=np.float32).reshape(2, 3)
for name, array in (("transposed", square.T), ("Fortran order", np.asfortranarray(square))):
    back = load(save({"array": array}))["array"]
    print(f"{name}: {array.tolist()} comes back as {back.tolist()}")
    assert back.shape == array.shape
    assert not np.array_equal(back, array), f"{name}: right now"
    assert np.array_equal(back.ravel(), array.ravel(order="K")), f"{name}: wrong in another way now"
    assert np.array_equal(load(save({"array": np.ascontiguousarray(array)}))["array"], array)
print("as found: values are written in the order of memory")
PY
