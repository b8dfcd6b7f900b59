#!/usr/bin/env bash
# onnxruntime-genai 0.15.2 builds Gemma 3 with the RoPE factor in local layers too, and an embedding scale of two decimals.
#
# Guessed before running: the table of local layers has base 10,000 and no factor, that of global layers 1,000,000 and
# factor 8 (4B and up). Seen: both are divided by the factor, so that five layers of six attend at an eighth of each
# distance. The embedding is scaled by round(sqrt(D), 2): 25.3 for D = 640, 7e-5 off. A model without a factor whose
# sqrt(D) is whole agrees with transformers to 1e-6, which hides both.
#
# Needs Python 3.11 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
export TQDM_DISABLE=1
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==4.57.3 onnxruntime-genai==0.15.2 onnx==1.23.2 onnx-ir==1.1.0
"$folder/venv/bin/python" - "$folder" <<'PY'
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import tokenizers
import transformers

folder = pathlib.Path(sys.argv[1])
small = dict(vocab_size=67, hidden_size=640, intermediate_size=96, num_hidden_layers=6, num_attention_heads=4)
small |= dict(num_key_value_heads=1, head_dim=32, query_pre_attn_scalar=32, max_position_embeddings=64)
scaling = {"rope_type": "linear", "factor": 8.0}
model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**small, rope_scaling=scaling))
model.save_pretrained(folder / "from")
words = {word: i for i, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>"])}
core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
transformers.PreTrainedTokenizerFast(tokenizer_object=core).save_pretrained(folder / "from")
builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-p", "fp32", "-e", "cpu"]
builder += ["-i", folder / "from", "-o", folder / "to", "-c", folder / "cache"]
subprocess.run(builder, check=True, stdout=subprocess.DEVNULL)
graph = onnx.load(folder / "to/model.onnx").graph
values = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
for rotary, name in ((model.model.rotary_emb, "global"), (model.model.rotary_emb_local, "local")):
    made = np.arcsin(values[f"sin_cache_{name}"][1].astype(np.float64))  # the angles of position 1, below pi / 2
    right = rotary.inv_freq.numpy()
    print(f"{name}: first angle of position 1 is {made[0]:.4f}, transformers' {right[0]:.4f}")
    assert np.allclose(made * (8 if name == "local" else 1), right, rtol=1e-5), "another table now"
scale = next(node for node in graph.node if node.name == "/model/embed_tokens/Mul").input[1]
print("embedding scale:", scale, "sqrt(640):", 640**0.5)
assert scale.endswith("/25.3"), "another scale now"
print("as found: the factor is in local layers too; the scale has two decimals")
PY
