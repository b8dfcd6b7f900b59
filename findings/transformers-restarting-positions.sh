#!/usr/bin/env bash
# transformers 5.23.0: position_ids that start again cut attention there with use_cache=False, and do not with True.
#
# Guessed before running: positions only turn RoPE, masks come from attention_mask; use_cache changes no logits. Seen: with
# use_cache=False and no attention_mask, restarting positions are taken for packed prompts, and a token no longer sees what
# stands before the restart. With the default use_cache=True, or with a mask of ones, it does see it. A port that is tested
# with packed or odd positions agrees with one call and not with the other.
#
# Needs Python 3.10 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import torch
import transformers

config = transformers.Gemma3TextConfig(
    vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=16,
)
torch.manual_seed(0)
model = transformers.Gemma3ForCausalLM(config).eval()
ids, other = torch.tensor([[3, 5, 7, 9, 11, 13]]), torch.tensor([[20, 5, 7, 9, 11, 13]])
positions = torch.tensor([[0, 1, 2, 0, 1, 2]])


def leak(**how):
    """How much a change of the first token moves the logits after the restart."""
    with torch.no_grad():
        change = model(other, position_ids=positions, **how).logits - model(ids, position_ids=positions, **how).logits
    return change[0, 3:].abs().max().item()


ones = torch.ones_like(ids)
cached, uncached, masked = leak(use_cache=True), leak(use_cache=False), leak(use_cache=False, attention_mask=ones)
print(f"use_cache True {cached:.3f}, False {uncached:.3f}, False with a mask of ones {masked:.3f}")
assert uncached == 0, "no cut without a cache now"
assert cached > 1e-3 and masked > 1e-3, "a cut with a cache or a mask now"
print("as found: use_cache decides what is seen")
PY
