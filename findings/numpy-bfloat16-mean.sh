#!/usr/bin/env bash
# ml_dtypes 0.6.0 with NumPy 2.4.6: the mean of 1000 bfloat16 ones is 0.256.
#
# Guessed before running: 1.0. NumPy sums float16 in float32, so it does the same for the other 16-bit float.
# Seen: np.sum stops at 256 (256 + 1 rounds to 256), np.mean gives 0.2559 and np.var of equal values is not 0. NumPy widens
# float16 by name; for a dtype of another package each partial sum is rounded. A mean error over a bfloat16 dump comes
# out several times too small, and grows no more after some hundred values. Widen first: x.astype(np.float32).mean().
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import ml_dtypes
import numpy as np

ones = np.ones(1000)
half, brain = ones.astype(np.float16), ones.astype(ml_dtypes.bfloat16)
print("float16: ", half.sum(), half.mean(), half.var())
print("bfloat16:", brain.sum(), brain.mean(), brain.var())
assert half.mean() == 1 and half.var() == 0, "float16 is narrow now, too"
assert float(brain.sum()) == 256 and abs(float(brain.mean()) - 0.256) < 1e-3 and float(brain.var()) > 0.2, "another sum now"
print("as found: partial sums are rounded to bfloat16")
PY
