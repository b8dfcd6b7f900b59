#!/usr/bin/env bash
# mlx 0.32.4 on a CPU: softmax of 1000 equal bfloat16 scores gives 1/256 each, so that they sum to 3.9.
#
# Guessed before running: 0.001 each, since mx.sum of the exponentials is 1000. Seen: softmax adds
# its exponentials in the dtype of its input, where 256 + 1 is 256; in float16 it stops at 2048. `precise=True` is right and
# is not the default. Attention written by hand over many similar keys, or the probabilities of a sampler, come out several
# times too large.
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

mx.set_default_device(mx.cpu)
scores = mx.zeros(1000, mx.bfloat16)
plain, precise = mx.softmax(scores)[0].item(), mx.softmax(scores, precise=True)[0].item()
print(f"softmax {plain}, precise {precise}, sum of the exponentials {mx.exp(scores).sum().item()}")
assert abs(precise - 0.001) < 1e-5 and mx.exp(scores).sum().item() == 1000
assert plain == 1 / 256, "another sum now"
print("as found: the sum stops at 256")
PY
