#!/usr/bin/env bash
# mlx-vlm 0.7.10: Gemma 3 called with an image and its attention_mask has no causal mask; its own generation is all causal.
#
# Guessed before running: text is causal, the tokens of an image see each other both ways, in both. Seen: model(ids,
# pixels, mask=ones) turns the mask of ones into one of T x T that allows everything, so that earlier logits depend on the
# last token and local layers have no window. As its generate calls the two halves, that mask is dropped, and image tokens
# are causal. Neither is Gemma's rule: a port that is held against it is called wrong while it is right.
#
# Needs Linux on x86-64 or a Mac, Python 3.11 or newer and a package index. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
extra=""; [ "$(uname)" = Linux ] && extra="[cpu]"
"$folder/venv/bin/pip" install -q "mlx$extra==0.32.4" mlx-lm==0.32.2 mlx-vlm==0.7.10 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import mlx.core as mx
import numpy as np
from mlx_vlm.models.gemma3 import config, gemma3

text = dict(model_type="gemma3_text", hidden_size=32, num_hidden_layers=6, intermediate_size=48, num_attention_heads=2)
text |= dict(num_key_value_heads=1, head_dim=16, vocab_size=60, mm_tokens_per_image=4)
vision = dict(model_type="siglip_vision_model", hidden_size=16, num_hidden_layers=1, intermediate_size=24)
vision |= dict(num_attention_heads=2, patch_size=7, image_size=28)
whole = dict(model_type="gemma3", image_token_index=59, vocab_size=60, hidden_size=32, pad_token_id=0)
model = gemma3.Model(
    config.ModelConfig(config.TextConfig.from_dict(text), config.VisionConfig.from_dict(vision), **whole)
)
pixels = mx.random.normal((1, 3, 28, 28))
mask = mx.ones((1, 9), dtype=mx.int32)


def called(ids):
    return np.array(model(ids, pixels, mask=mask).logits)[0]


def generating(ids):
    parts = model.get_input_embeddings(ids, pixels, mask=mask).to_dict()
    return np.array(model.language_model(ids, **{name: part for name, part in parts.items() if part is not None}).logits)[0]


def reach(logits):
    """How much a change of the last token moves the logits before it."""
    ids = [2, 57, 59, 59, 59, 59, 58, 7, 8]
    return np.abs(logits(mx.array([ids])) - logits(mx.array([ids[:-1] + [9]])))[:-1].max()


print(f"future seen: {reach(called):.3f} when called, {reach(generating):.3f} when generating")
assert reach(called) > 1e-2, "causal when called now"
assert reach(generating) == 0, "another mask when generating now"
print("as found: no causal mask when called")
PY
