#!/usr/bin/env bash
# mlx-lm 0.32.2 cuts top-p before it applies the temperature; transformers does the reverse.
#
# Guessed before running: temperature, then top-k, then top-p, as transformers' generate. Seen: the cut is made on the
# probabilities of temperature 1. Of 0.6, 0.3, 0.1 at temperature 4 (0.40, 0.34, 0.26) top_p 0.55 leaves one token here and
# two there: above 1 the temperature does less than it says, and two implementations with equal settings and right logits
# disagree in what may be drawn.
#
# Needs Linux on x86-64 or a Mac, Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
extra=""; [ "$(uname)" = Linux ] && extra="[cpu]"
"$folder/venv/bin/pip" install -q "mlx$extra==0.32.4" mlx-lm==0.32.2
"$folder/venv/bin/python" - "$folder" <<'PY'
import mlx.core as mx
from mlx_lm.sample_utils import make_sampler

probs = mx.array([[0.6, 0.3, 0.1]])
sampler = make_sampler(temp=4.0, top_p=0.55)
drawn = {sampler(mx.log(probs)).item() for _ in range(300)}
warm = probs**0.25 / (probs**0.25).sum()
print("drawn:", drawn, "of warm probabilities", [round(p, 2) for p in warm[0].tolist()])
assert warm[0, 0].item() < 0.55, "one token would do either way"
assert drawn == {0}, "temperature comes first now"
print("as found: top-p is cut at temperature 1")
PY
