#!/usr/bin/env bash
# mlx 0.32.4: the mean of 100,000 float16 ones is infinity.
#
# Guessed before running: 1, as NumPy, torch and JAX give. Seen: mx.mean divides mx.sum, and the sum is returned in float16
# before it is divided; beyond 65504 it is infinity. It takes a row of some thousand activations of size 20 (rms norms
# written by hand, mean errors over a tensor) to come there. Cast first: x.astype(mx.float32).
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

ones = mx.ones(100_000, mx.float16)
narrow, wide = mx.mean(ones).item(), mx.mean(ones.astype(mx.float32)).item()
print("float16:", narrow, "float32:", wide, "NumPy's float16:", np.mean(np.array(ones)))
assert np.mean(np.array(ones)) == wide == 1
assert narrow == float("inf"), "wide inside now"
print("as found: the sum overflows before it is divided")
PY
