#!/usr/bin/env bash
# transformer-lens 2.18.0 runs Gemma 3 from 4B up without the RoPE factor, and 27B with sqrt(head_dim) in its scores.
#
# Guessed before running: its own rows of Gemma 3 hold what config.json does. Seen: HookedTransformerConfig has no field for
# linear scaling, so that the factor 8 of global layers is missing from 4B up; and no row sets attn_scale, which is
# sqrt(128) for 27B in the place of sqrt(168). A small model without a factor agrees with transformers to 1e-6; 270M and 1B are
# right. Version 4 has no HookedTransformer of its own for Gemma 3: it wraps transformers.
#
# Needs Python 3.11 or 3.12 and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformer-lens==2.18.0 transformers==4.57.6 pyarrow==19.0.1 datasets==2.21.0
"$folder/venv/bin/python" - <<'PY'
import torch
import transformers
from transformer_lens import HookedTransformer
from transformer_lens.loading_from_pretrained import get_pretrained_model_config
from transformer_lens.pretrained.weight_conversions.gemma import convert_gemma_weights

for size, scalar in {"4b": 256, "27b": 128}.items():
    row = get_pretrained_model_config(f"google/gemma-3-{size}-pt", dtype=torch.float32, device="cpu")
    print(f"{size}: scores are divided by sqrt({row.attn_scale**2:.0f})")
    assert round(row.attn_scale**2) == scalar, "another scale now"
WIDTH, LAYERS, HEAD, TOKENS = 64, 6, 16, 40
ids = torch.randint(4, 60, (1, TOKENS), generator=torch.Generator().manual_seed(0))


def error(scaling):
    small = dict(vocab_size=60, hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=LAYERS, head_dim=HEAD)
    small |= dict(num_attention_heads=4, num_key_value_heads=2, query_pre_attn_scalar=HEAD, sliding_window=8)
    torch.manual_seed(1)
    theirs = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**small, rope_scaling=scaling)).eval()
    c = get_pretrained_model_config("google/gemma-3-4b-pt", dtype=torch.float32, device="cpu")
    c.n_layers, c.d_model, c.d_head, c.n_heads, c.n_key_value_heads, c.d_mlp = LAYERS, WIDTH, HEAD, 4, 2, 96
    c.d_vocab = c.d_vocab_out = 60
    c.n_ctx, c.window_size, c.rotary_dim, c.attn_scale, c.attn_types = 64, 8, HEAD, HEAD**0.5, c.attn_types[:LAYERS]
    c.tokenizer_name = None
    ours = HookedTransformer(c)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.normal_(std=0.2)
        ours.load_state_dict(convert_gemma_weights(theirs, c), strict=False)
        want = theirs(ids).logits
        return float((ours.eval()(ids) - want).norm() / want.norm())


plain, scaled = error(None), error({"rope_type": "linear", "factor": 8.0})
print(f"off by {plain:.1e} without the factor, {scaled:.1e} with it")
assert plain < 1e-5 and scaled > 1e-2, "the factor is read now"
print("as found: neither the factor nor the scale of 27B")
PY
