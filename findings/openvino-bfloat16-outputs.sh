#!/usr/bin/env bash
# openvino 2026.4.1 shows a bfloat16 output to Python as an array of float16 that holds the bits of bfloat16.
#
# Guessed before running: NumPy has no bfloat16, so that such an output is widened to float32, or refused. Seen: dtype
# float16 without a warning; 1.0 reads 1.875, 3.0 reads 2.125, -1e30 reads -10830. The port's element type says bf16, and a
# view of the array as bfloat16 has the right numbers.
#
# Needs Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - <<'PY'
import ml_dtypes
import numpy as np
import openvino
from openvino import opset13

numbers = np.array([1.0, 3.0, -0.5, -1e30], np.float32)
x = opset13.parameter([4], np.float32, name="x")
narrow = opset13.convert(x, "bf16")
compiled = openvino.Core().compile_model(openvino.Model([narrow], [x], "narrow"), "CPU")
got = compiled([numbers])[0]
print("element type", compiled.output(0).get_element_type(), "dtype", got.dtype, "numbers", got)
print("as bfloat16:", got.view(ml_dtypes.bfloat16))
assert got.dtype == np.float16, "another dtype now"
assert got[0] == 1.875
assert (got.view(ml_dtypes.bfloat16) == numbers.astype(ml_dtypes.bfloat16)).all()
print("as found: the bits of bfloat16, called float16")
PY
