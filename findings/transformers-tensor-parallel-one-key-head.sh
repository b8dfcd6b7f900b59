#!/usr/bin/env bash
# transformers 5.24.0: its own tensor-parallel plan loads Gemma 3 270M and 1B on two ranks, and their first forward fails.
#
# Guessed before running: of models with one head of keys (270M, 1B) the plan keeps keys and values whole on every rank, as
# vLLM and Megatron do, or from_pretrained says that one head cannot be shared. Seen: `k_proj` and `v_proj` are cut in
# the middle of the head without a word, and the forward raises an error about a shape that names neither ranks nor heads.
# A head dim is cut in half; from 4B on (4 heads of keys) two and four ranks work.
#
# Needs Python 3.10 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 accelerate==1.15.0
cat > "$folder/run.py" <<'PY'
import sys

import torch
import transformers
from transformers.distributed import DistributedConfig

transformers.logging.set_verbosity_error()
folder, heads = sys.argv[1], int(sys.argv[2])
plan = DistributedConfig(tp_plan="auto")
model = transformers.AutoModelForCausalLM.from_pretrained(folder, distributed_config=plan)
held = model.model.layers[0].self_attn.k_proj.weight.to_local().shape[0]
try:
    with torch.no_grad():
        model(torch.tensor([[2, 5, 6, 7, 8]]))
    said = "ran"
except RuntimeError as error:
    said = str(error).splitlines()[0]
if torch.distributed.get_rank() == 0:
    print(f"{heads} heads of keys, 16 channels each; a rank holds {held} channels: {said}")
assert (said == "ran") is (heads == 2), "another behaviour now"
assert held == 8 * heads, "keys are no longer cut"
PY
cat > "$folder/make.py" <<'PY'
import sys

import transformers

config = dict(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, head_dim=16)
made = transformers.Gemma3TextConfig(**config, num_key_value_heads=int(sys.argv[2]))
transformers.Gemma3ForCausalLM(made).save_pretrained(sys.argv[1])
PY
for heads in 1 2; do
  "$folder/venv/bin/python" "$folder/make.py" "$folder/model-$heads" "$heads" 2>"$folder/said"
  OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo "$folder/venv/bin/python" -m torch.distributed.run --standalone \
    --nproc-per-node 2 "$folder/run.py" "$folder/model-$heads" "$heads" 2>"$folder/said" ||
    { grep Error "$folder/said"; exit 1; }
done
echo "as found: one head is cut in two, and the forward fails"
