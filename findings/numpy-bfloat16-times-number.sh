#!/usr/bin/env bash
# ml_dtypes 0.6.0 with NumPy 2.4.6: a bfloat16 array times 2.0 is float32, and so is a product by `@`; np.dot's is bfloat16.
#
# Guessed before running: a Python number is weak (NEP 50), so that the array keeps its dtype, as float16 does; `@` and
# np.dot of two matrices agree. Seen: times 2 it stays bfloat16, times 2.0 it becomes float32; a @ b is float32 and
# np.dot(a, b) is bfloat16. An emulation of bfloat16 written in NumPy therefore stops rounding after the first
# `x * scale`, and looks more exact than the implementation that it stands for.
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

half, brain = np.ones((2, 2), np.float16), np.ones((2, 2), ml_dtypes.bfloat16)
seen = {
    "x * 2": ((half * 2).dtype, (brain * 2).dtype),
    "x * 2.0": ((half * 2.0).dtype, (brain * 2.0).dtype),
    "x @ x": ((half @ half).dtype, (brain @ brain).dtype),
    "np.dot(x, x)": (np.dot(half, half).dtype, np.dot(brain, brain).dtype),
}
for what, (of_half, of_brain) in seen.items():
    print(f"{what:13} float16 -> {of_half}, bfloat16 -> {of_brain}")
assert all(of_half == np.float16 for of_half, _ in seen.values())
kept = [of_brain == ml_dtypes.bfloat16 for _, of_brain in seen.values()]
assert kept == [True, False, False, True], kept
print("as found: a float, and the operator of the product, leave bfloat16")
PY
