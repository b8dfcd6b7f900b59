#!/usr/bin/env bash
# mlx-lm 0.32.2 scales Gemma 3's embedding by sqrt(D) rounded to bfloat16, also in a float32 run.
#
# Guessed before running: the scale has the model's dtype, so that float32 weights are multiplied by 25.2982 (D = 640).
# Seen: 25.25. Google's code rounds the scale to the dtype of the activations, as does transformers; in float32 that leaves
# it at 25.2982. A float32 run for debugging is therefore 0.2 % off in its first operation.
#
# Needs Linux on x86-64 or a Mac, Python 3.10 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
extra=""; [ "$(uname)" = Linux ] && extra="[cpu]"
"$folder/venv/bin/pip" install -q "mlx$extra==0.32.4" mlx-lm==0.32.2
"$folder/venv/bin/python" - <<'PY'
import mlx.core as mx
from mlx_lm.models import gemma3_text

args = gemma3_text.ModelArgs(
    model_type="gemma3_text", hidden_size=640, num_hidden_layers=6, intermediate_size=64, num_attention_heads=4,
    head_dim=16, rms_norm_eps=1e-6, vocab_size=50, num_key_value_heads=1,
)
model = gemma3_text.Gemma3Model(args)
heard = []


class Ear:
    """Stands in for a layer and keeps what it is given."""

    def __call__(self, x, *rest, **named):
        heard.append(x)
        return x


model.layers = [Ear() for _ in model.layers]
ids = mx.array([[3, 7, 11]])
rows = model.embed_tokens(ids)
model(ids)
assert heard[0].dtype == mx.float32, heard[0].dtype
scale = (mx.sum(heard[0] * rows) / mx.sum(rows * rows)).item()
print(f"scale: {scale:.4f}; sqrt(640) is {640 ** 0.5:.4f}")
assert abs(scale - 25.25) < 1e-3, "another scale now"
print("as found: the scale is that of bfloat16 in a float32 run")
PY
