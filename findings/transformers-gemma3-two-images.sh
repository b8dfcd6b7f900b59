#!/usr/bin/env bash
# transformers 4.51.3 lets the images of one prompt see each other; 4.53.3 lets an image see the start of the next.
#
# Guessed before running: each image is a block of its own: its tokens see each other, and what comes before. Seen: 4.51.3
# asks whether both tokens are of images, so that the first image sees all of the second; 4.53.3 asks whether they are at
# most an image's tokens apart, so that it sees the second's first tokens. 4.52.4, between them, and 4.54.1 are right.
# A port that was held against one of them with two images has copied its mask.
#
# Needs Python 3.11 to 3.12 and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/two.py" <<'PY'
import sys

import torch
import transformers

transformers.logging.set_verbosity_error()
text = dict(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=2)
text |= dict(num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, sliding_window=16)
vision = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, patch_size=7, image_size=28)
config = transformers.Gemma3Config(
    text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=59, boi_token_index=57, eoi_token_index=58
)
config._attn_implementation = "eager"
torch.manual_seed(0)
model = transformers.Gemma3ForConditionalGeneration(config).eval()
ids = torch.tensor([[2, 57, 59, 59, 59, 59, 58, 57, 59, 59, 59, 59, 58, 7]])
with torch.no_grad():
    out = model(
        input_ids=ids,
        pixel_values=torch.rand(2, 3, 28, 28),
        token_type_ids=(ids == 59).long(),
        attention_mask=torch.ones_like(ids),
        output_attentions=True,
    )
seen = [sum(float(weights[0, 0, query, key]) > 0 for key in range(8, 12)) for query in range(2, 6) for weights in out.attentions[:1]]
print(f"transformers {transformers.__version__}: tokens of the second image seen by each token of the first: {seen}")
assert seen == [int(count) for count in sys.argv[1]], "another mask now"
PY
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==4.51.3 numpy==2.3.5
"$folder/venv/bin/python" "$folder/two.py" 4444
"$folder/venv/bin/pip" install -q transformers==4.53.3
"$folder/venv/bin/python" "$folder/two.py" 0012
"$folder/venv/bin/pip" install -q transformers==4.54.1
"$folder/venv/bin/python" "$folder/two.py" 0000
echo "as found: two masks that mix images, and one that does not"
