#!/usr/bin/env bash
# transformers 5.23.0: Gemma 3 sees an image causally, token by token, unless token_type_ids are passed.
#
# Guessed before running: the model finds the image by its token id, as it does to place the soft tokens, and lets them see
# each other both ways. Seen: without token_type_ids the logits are those of plain causal attention, from the model as from
# generate, and nothing is said. A port that is held against `model(input_ids=..., pixel_values=...)` copies the mistake,
# or is called wrong while it is right.
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

transformers.logging.set_verbosity_error()
text = dict(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
text |= dict(num_key_value_heads=1, head_dim=16)
vision = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=7)
config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_id=59)
torch.manual_seed(0)
model = transformers.Gemma3ForConditionalGeneration(config).eval()
given = dict(input_ids=torch.tensor([[2, 57, 59, 59, 59, 59, 58, 7]]), pixel_values=torch.randn(1, 3, 28, 28))
image = (given["input_ids"] == 59).long()
with torch.no_grad():
    without = model(**given).logits
    causal = model(**given, token_type_ids=0 * image).logits
    both_ways = model(**given, token_type_ids=image).logits
print("from causal:", (without - causal).abs().max().item(), "from both ways:", (without - both_ways).abs().max().item())
assert torch.equal(without, causal), "something else than causal now"
assert (without - both_ways).abs().max() > 1e-3, "both ways without being told now"
print("as found: causal unless told")
PY
