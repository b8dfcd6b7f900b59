#!/usr/bin/env bash
# ctranslate2 4.8.5 converts Gemma 3 without its RoPE factor (8 from 4B up) and query scale (27B), without a word.
#
# Guessed before running: a loader that is made for Gemma 3 reads every field of its config, or refuses what it does not
# know. Seen: a toy model with neither agrees with transformers to 1e-6; with factor 8, or with query_pre_attn_scalar other
# than head_dim, logits are several per cent off. 270M and 1B, which have neither, hide it.
#
# Needs Python 3.11 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 ctranslate2==4.8.5 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import pathlib
import sys

import ctranslate2
import numpy as np
import tokenizers
import torch
import transformers

transformers.logging.set_verbosity_error()
words = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"w{i}" for i in range(60))]
core = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
)
ids = np.random.default_rng(0).integers(4, 64, (1, 24))


def error(name, **fields):
    folder = pathlib.Path(sys.argv[1]) / name
    common = dict(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=6, num_attention_heads=2)
    common |= dict(num_key_value_heads=1, head_dim=32, sliding_window=64, query_pre_attn_scalar=32)
    torch.manual_seed(1)
    model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**common | fields)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2)
        want = model(torch.tensor(ids)).logits.numpy()
    model.save_pretrained(folder / "from")
    tokenizer.save_pretrained(folder / "from")
    ctranslate2.converters.TransformersConverter(str(folder / "from")).convert(str(folder / "to"))
    generator = ctranslate2.Generator(str(folder / "to"), device="cpu", compute_type="float32")
    got = np.array(generator.forward_batch([[words[i] for i in row] for row in ids], return_log_probs=False))
    off = np.linalg.norm(got - want) / np.linalg.norm(want)
    print(f"{name}: {off:.1e}")
    return off


assert error("plain") < 1e-5
assert error("factor", rope_scaling={"rope_type": "linear", "factor": 8.0}) > 1e-2, "the factor is read now"
assert error("scale", query_pre_attn_scalar=50) > 1e-2, "the query scale is read now"
print("as found: both fields are left out")
PY
