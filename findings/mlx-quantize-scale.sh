#!/usr/bin/env bash
# mlx 0.32.4: mx.quantize gives negative scales, and its grid misses one end of the group by up to a step.
#
# Guessed before running: the textbook's affine grid: scale = (max - min) / 15 above zero, bias = min, both ends exact. Seen:
# the end that is larger in size is exact and is the bias; if it is the positive one, the scale is negative. The step is
# then stretched so that zero lies on the grid, and the other end is clipped: -0.3 of a group from -0.3 to 1 comes back as
# -0.25, 0.6 steps off. Who unpacks a 4-bit checkpoint with scale >= 0, or checks an error of half a step, is wrong.
#
# Needs Linux on x86-64 or a Mac, Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
extra=""; [ "$(uname)" = Linux ] && extra="[cpu]"
"$folder/venv/bin/pip" install -q "mlx$extra==0.32.4" numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import mlx.core as mx
import numpy as np

group = mx.array(np.linspace(-0.3, 1.0, 32, dtype=np.float32)[None])
packed, scales, biases = mx.quantize(group, group_size=32, bits=4)
back = mx.dequantize(packed, scales, biases, group_size=32, bits=4)
scale, bias, low, high = scales.item(), biases.item(), back[0, 0].item(), back[0, -1].item()
print(f"scale {scale:.4f} (textbook {1.3 / 15:.4f}), bias {bias} (textbook -0.3); ends come back as {low:.4f} and {high}")
assert scale < 0 and bias == 1 and high == 1, "another grid now"
assert abs(low + 0.25) < 1e-3, "the other end is exact now"
print("as found: a negative scale, and one end off the grid")
PY
