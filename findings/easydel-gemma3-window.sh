#!/usr/bin/env bash
# easydel 0.3.0: local layers of Gemma 3 see W + 1 keys, and the RoPE factor of its global layers is lost.
#
# Guessed before running: `sliding_window` W counts the query's own key, as in the model that the weights are of; and the
# factor 8 divides positions in global layers (4B and up). Seen: a token sees W keys before its own. The linear scaling is put
# under `full_attention`'s own `full_attention` key, where nothing looks, and the kind stays "default". That table also holds
# bfloat16 values in a float32 model.
#
# Needs Python 3.11 to 3.13 and a package index; installs torch. Fails if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 easydel==0.3.0 jax==0.9.2 flax==0.12.3 ejkernel==0.0.78 pillow==13.0.0
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import easydel
import jax.numpy as jnp
import numpy as np
from flax.nnx import Rngs

WINDOW, HEAD = 4, 16
small = dict(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=2)
small |= dict(num_key_value_heads=1, head_dim=HEAD, query_pre_attn_scalar=HEAD, sliding_window=WINDOW)
small |= dict(max_position_embeddings=64, sharding_axis_dims=(1, 1, 1, 1, 1), attn_mechanism="vanilla", attn_dtype=jnp.float32)
plain = easydel.Gemma3TextConfig(**small)
scaled = easydel.Gemma3TextConfig(**small, rope_scaling={"rope_type": "linear", "factor": 8.0})
model = easydel.Gemma3ForCausalLM(plain, dtype=jnp.float32, param_dtype=jnp.float32, rngs=Rngs(0))
with model.mesh:
    seen = model(input_ids=jnp.arange(3, 15)[None], output_attentions=True).attentions
keys = [int((np.asarray(layer[0, 0, -1]) > 0).sum()) for layer in seen]
print(f"keys seen by the last of 12 tokens, window {WINDOW}, by layer: {keys}")
assert keys == [WINDOW + 1] * 5 + [12], "another window now"


def table(config):
    made = config.get_basic_frequencies()
    return np.asarray(getattr(made, "value", made), np.float64)


angles = np.arccos(table(plain)[1, : HEAD // 2])
print("first angle of position 1, factor 1 and 8:", angles[0], np.arccos(table(scaled)[1, 0]))
assert np.array_equal(table(plain), table(scaled)), "the factor is read now"
assert np.array_equal(table(plain), table(plain).astype(jnp.bfloat16).astype(np.float64)), "float32 now"
print("as found: one key too many, no factor, cosines of bfloat16")
PY
