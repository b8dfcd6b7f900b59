"""mlx-lm's and mlx-vlm's models with our weights, mended or not."""

from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from ref.config import TextConfig
from ref.ops.linear import widen_jit
from ref.weights.export import named_weights, save_hugging_face
from ref.weights.resolve import load
from ref.weights.synthetic import synthetic_params

needs_mlx = pytest.mark.skipif(
    not (find_spec("mlx") and find_spec("mlx_lm")), reason="needs mlx-lm: pip install -e '.[mlx]'"
)
needs_mlx_vlm = pytest.mark.skipif(
    not (find_spec("mlx") and find_spec("mlx_vlm")), reason="needs mlx-vlm: pip install mlx-vlm==0.7.10"
)
# `tiny` but for its width, whose root is 6 in every format
WIDE = TextConfig("wide", 40, 7, 12, 3, 10, 44, 9**-0.5, 5, 64, rope_factor=8.0, vocabulary=97, global_every=6)
IDS = [2, 33, 5, 80, 7, 11, 3, 90, 61]


def wide(folder):
    """Return weights in a folder, made up."""
    save_hugging_face(synthetic_params(WIDE, 0, bfloat16=False), folder)
    return load(str(folder))


@contextmanager
def scale_in_float32(module="mlx_lm.models.gemma3_text"):
    """Let a module find float32 where it says bfloat16: it says so of the embedding's scale alone."""
    gemma3, mx = import_module(module), import_module("mlx.core")

    class Mended:
        bfloat16 = mx.float32

        def __getattr__(self, name):
            return getattr(mx, name)

    gemma3.mx = Mended()
    try:
        yield
    finally:
        gemma3.mx = mx


def of_mlx_vlm(loaded):
    """Return mlx-vlm's language model of weights."""
    mx, c = import_module("mlx.core"), loaded.params.config
    own = import_module("mlx_vlm.models.gemma3.config").TextConfig(
        model_type="gemma3_text",
        hidden_size=c.width,
        num_hidden_layers=c.layers,
        intermediate_size=c.ffn_width,
        num_attention_heads=c.query_heads,
        head_dim=c.head_dim,
        vocab_size=c.vocabulary,
        num_key_value_heads=c.kv_heads,
        query_pre_attn_scalar=c.query_scale**-2,
        sliding_window=c.window,
        rope_scaling={"rope_type": "linear", "factor": c.rope_factor},
        sliding_window_pattern=c.global_every,
        max_position_embeddings=c.max_positions,
    )
    model = import_module("mlx_vlm.models.gemma3.language").LanguageModel(own)
    tensors = {
        name: mx.array(np.require(widen_jit(one), np.float32)) for name, one in named_weights(loaded.params, "model.")
    }
    model.load_weights([*tensors.items(), ("lm_head.weight", tensors["model.embed_tokens.weight"])])
    return model
