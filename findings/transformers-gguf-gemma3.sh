#!/usr/bin/env bash
# transformers 5.24.0 loads a GGUF of Gemma 3 without its RoPE factor (4B and up), and with 27B's query scale of 256.
#
# Guessed before running: from_pretrained(gguf_file=...) gives the model that llama.cpp runs. Seen: of the RoPE keys only the
# base is read, so that `rope.scaling.factor` 8 is lost and global layers see positions 8 times too far. No key holds
# query_pre_attn_scalar, which llama.cpp derives for 27B (D / N = 168): here it is the default of the class, 256. The
# 270M and 1B, which have neither, are right.
#
# Needs Python 3.11 or newer and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
export TQDM_DISABLE=1
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 gguf==0.19.0 accelerate==1.15.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

import gguf
import numpy as np
import torch
import transformers

transformers.logging.set_verbosity_error()
VOCABULARY, LAYERS = 151, 6
ids = torch.tensor(np.random.default_rng(0).integers(4, VOCABULARY, (1, 40)))


def write(path, config, weights):
    """As llama.cpp's converter does: gains with 1 added, and the factor under rope.scaling."""
    out = gguf.GGUFWriter(path, "gemma3")
    out.add_context_length(config.max_position_embeddings)
    out.add_block_count(LAYERS)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(config.head_dim)
    out.add_value_length(config.head_dim)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_sliding_window(config.sliding_window)
    out.add_rope_freq_base(1e6)
    out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    out.add_rope_scaling_factor(config.rope_parameters["full_attention"].get("factor", 1.0))
    out.add_tokenizer_model("llama")
    out.add_token_list([f"w{i}".encode() for i in range(VOCABULARY)])
    out.add_token_scores([-float(i) for i in range(VOCABULARY)])
    out.add_token_types([1] * VOCABULARY)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, LAYERS)
    for name, value in weights.items():
        if name != "lm_head.weight":  # it is the embedding
            out.add_tensor(names.get_name(name, (".weight",)), value.numpy() + np.float32("norm" in name))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def error(name, factor=1.0, **fields):
    rope = {"full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": factor}}
    rope["sliding_attention"] = {"rope_type": "default", "rope_theta": 1e4}
    common = dict(vocab_size=VOCABULARY, intermediate_size=96, num_hidden_layers=LAYERS, sliding_window=8)
    common |= dict(num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64)
    torch.manual_seed(1)
    model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**common, **fields, rope_parameters=rope)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2)
        want = model(ids).logits
        write(f"{sys.argv[1]}/{name}.gguf", model.config, model.state_dict())
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            sys.argv[1], gguf_file=f"{name}.gguf", dtype=torch.float32
        )
        off = float((loaded.eval()(ids).logits - want).norm() / want.norm())
    read = loaded.config
    print(f"{name}: {off:.1e}", read.query_pre_attn_scalar, read.rope_parameters["full_attention"])
    return off


assert error("plain", hidden_size=64, head_dim=256, query_pre_attn_scalar=256) < 1e-5
assert error("factor", 8.0, hidden_size=64, head_dim=256, query_pre_attn_scalar=256) > 1e-2, "the factor is read now"
assert error("scale", hidden_size=336, head_dim=128, query_pre_attn_scalar=168) > 1e-2, "the scale is derived now"
print("as found: the factor is lost, and the query scale is 256")
PY
