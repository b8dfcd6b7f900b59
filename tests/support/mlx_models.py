"""mlx-lm's and mlx-vlm's models with our weights, mended or not."""

from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from ref.config import VISION, TextConfig
from ref.model.multimodal import soft_token_id
from ref.ops.linear import widen_jit
from ref.weights.export import named_vision_tensors, named_weights, save_hugging_face
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


def text_config_of(c):
    """Return mlx-vlm's configuration of a text model."""
    return import_module("mlx_vlm.models.gemma3.config").TextConfig(
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
        mm_tokens_per_image=VISION["tiny"].soft_tokens,
    )


def text_tensors(loaded, prefix):
    """Return the weights of a language model, its head beside it."""
    mx = import_module("mlx.core")
    names = named_weights(loaded.params, f"{prefix}model.")
    tensors = {name: mx.array(np.require(widen_jit(one), np.float32)) for name, one in names}
    return tensors | {f"{prefix}lm_head.weight": tensors[f"{prefix}model.embed_tokens.weight"]}


def of_mlx_vlm(loaded):
    """Return mlx-vlm's language model of weights."""
    model = import_module("mlx_vlm.models.gemma3.language").LanguageModel(text_config_of(loaded.params.config))
    model.load_weights(list(text_tensors(loaded, "").items()))
    return model


def seeing_mlx_vlm(loaded):
    """Return mlx-vlm's whole model of weights that see."""
    mx, configs = import_module("mlx.core"), import_module("mlx_vlm.models.gemma3.config")
    c, v = loaded.params.config, loaded.vision.config
    tower = configs.VisionConfig("gemma3", v.layers, v.width, v.ffn_width, v.heads, v.patch, v.image, v.channels)
    text, soft = text_config_of(c), soft_token_id(c)
    how = {"vocab_size": c.vocabulary, "image_token_index": soft, "hidden_size": c.width}
    model = import_module("mlx_vlm.models.gemma3.gemma3").Model(configs.ModelConfig(text, tower, "gemma3", **how))
    tensors = text_tensors(loaded, "language_model.")
    places = ("vision_tower.vision_model.", "multi_modal_projector.")
    for name, one in named_vision_tensors(loaded.vision, *places):
        value = np.require(one, np.float32)
        tensors[name] = mx.array(value.transpose(0, 2, 3, 1) if "patch_embedding.weight" in name else value)
    model.load_weights(list(tensors.items()))
    return model
