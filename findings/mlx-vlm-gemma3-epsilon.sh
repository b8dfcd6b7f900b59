#!/usr/bin/env bash
# mlx-vlm 0.7.10 runs the last norm of Gemma 3's vision tower with epsilon 1e-5; the tower's other norms have the config's 1e-6.
#
# Guessed before running: every LayerNorm of the tower has `layer_norm_eps`, as transformers' SiglipVisionModel has it. Seen:
# `post_layernorm` is made without it, and has the default of MLX. Rows of a variance of 1 are 4.5e-6 too small, those of
# 1e-4 by 4 %: more than float32's noise everywhere, and less than a tolerance of 1e-3 shows.
#
# Needs Linux on x86-64 or a Mac, Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
extra=""; [ "$(uname)" = Linux ] && extra="[cpu]"
"$folder/venv/bin/pip" install -q "mlx$extra==0.32.4" mlx-lm==0.32.2 mlx-vlm==0.7.10 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import mlx.core as mx
import numpy as np
from mlx_vlm.models.gemma3 import config, vision

own = config.VisionConfig(
    model_type="gemma3",
    num_hidden_layers=2,
    hidden_size=16,
    intermediate_size=24,
    num_attention_heads=2,
    patch_size=7,
    image_size=28,
    layer_norm_eps=1e-6,
)
tower = vision.VisionModel(own).vision_model
inside = {norm.eps for block in tower.encoder.layers for norm in (block.layer_norm1, block.layer_norm2)}
print("in the blocks:", inside, "| behind them:", tower.post_layernorm.eps)
assert inside == {1e-6}
assert tower.post_layernorm.eps == 1e-5, "it has the epsilon of the config now"

x = np.random.default_rng(0).standard_normal((1, 4, 16)) * 1e-2  # of a variance of 1e-4
centred = x - x.mean(-1, keepdims=True)
want = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-6)
got = np.array(tower.post_layernorm(mx.array(x.astype(np.float32))))
off = np.linalg.norm(got - want) / np.linalg.norm(want)
print(f"off by {off:.1%} where rows are small")
assert off > 0.01
print("as found: the last norm of the tower has 1e-5")
PY
