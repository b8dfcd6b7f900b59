"""keras-hub's Gemma 3 of given weights: its parts, its configuration, and its variables filled."""

import warnings
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ref.capture.common import check_tied
from ref.config import SIZES, TextConfig
from ref.errors import wanted
from ref.model.params import TextParams
from ref.ops.linear import widen_jit

INSTALL = "pip install keras-hub, with TensorFlow, JAX or PyTorch for a backend"


class Parts(NamedTuple):
    """What a capture uses of Keras."""

    keras: Any
    hub: Any
    layer: Any  # the class whose calls are heard
    version: str


def import_keras() -> Parts:
    """Import Keras and keras-hub, or refuse with what to install.

    Raises:
        BadInput: one is not installed, or no backend is.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # by name: to a type checker `import keras` is the file beside this one
            keras, hub = import_module("keras"), import_module("keras_hub")
    except ImportError as error:
        raise wanted("keras-hub", "capture", INSTALL, str(error).splitlines()[0]) from None
    backend = keras.config.backend()
    names = f"{hub.__version__} (keras {keras.__version__}, {backend} {version(backend)})"
    return Parts(keras, hub, keras.layers.Layer, names)


def model_of(parts: Parts, config: TextConfig, dtype: str) -> Any:
    """Build the text model with random weights.

    Args:
        parts: from `import_keras`.
        config: the sizes.
        dtype: of weights and computation.

    Returns:
        A `Gemma3CausalLM` without preprocessor.

    Raises:
        BadInput: sizes that it would not run as they are: every sixth layer global, rotation bases of 10,000 and
            1,000,000, epsilon 1e-6, and the query scaled by H^-1/2.

    Source: keras-hub 0.31.0 `models/gemma3/gemma3_backbone.py`, `gemma3_decoder_block.py`.
    Differs: its argument `query_head_dim_normalize=False`, the 27B's, does not reach the attention: its blocks
        say True.
    """
    backbone = parts.hub.models.Gemma3Backbone(
        vocabulary_size=config.vocabulary,
        image_size=None,
        num_layers=config.layers,
        num_query_heads=config.query_heads,
        num_key_value_heads=config.kv_heads,
        hidden_dim=config.width,
        intermediate_dim=config.ffn_width,
        head_dim=config.head_dim,
        query_head_dim_normalize=config.query_scale == config.head_dim**-0.5,
        use_query_key_norm=True,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=config.window,
        global_rope_scaling_factor=config.rope_factor,
        layer_norm_epsilon=config.rms_eps,
        dtype=dtype,
    )
    run = config_of(backbone)
    for field, value in config._asdict().items():
        if field not in ("name", "max_positions") and getattr(run, field) != value:
            raise wanted(f"{field} of {config.name}", "capture", f"{getattr(run, field)}, which keras-hub runs", value)
    return parts.hub.models.Gemma3CausalLM(backbone=backbone, preprocessor=None)


def config_of(backbone: Any) -> TextConfig:
    """Return what our table would say of a `Gemma3Backbone`, read from the layers that run.

    Args:
        backbone: of a Gemma 3; soft caps and a missing norm cannot be said and are left out.

    Raises:
        BadInput: local layers that are not five between two global ones.

    Source: keras-hub 0.31.0 `models/gemma3/gemma3_attention.py`.
    Differs: it knows no longest context: that of the released size of as many layers, else 131,072.
    """
    blocks = [block.attention for block in backbone.transformer_layers]
    is_global = [not one.use_sliding_window_attention for one in blocks]
    if is_global != [i % 6 == 5 for i in range(len(blocks))]:
        raise wanted("layers", "capture", "every sixth one global, the others with a window", is_global)
    sizes = {(row.layers, row.width, row.vocabulary): row for row in SIZES.values()}
    known = sizes.get((len(blocks), backbone.hidden_dim, backbone.vocabulary_size))
    local, last = blocks[0], blocks[5] if len(blocks) > 5 else None
    by_head = local.query_head_dim_normalize
    return TextConfig(
        name=known.name if known else "gemma",
        width=backbone.hidden_dim,
        layers=len(blocks),
        query_heads=local.num_query_heads,
        kv_heads=local.num_key_value_heads,
        head_dim=local.head_dim,
        ffn_width=backbone.intermediate_dim,
        query_scale=float(local.head_dim**-0.5 if by_head else (backbone.hidden_dim // local.num_query_heads) ** -0.5),
        window=local.sliding_window_size,
        max_positions=known.max_positions if known else 131_072,
        rope_factor=float(last.rope_scaling_factor if last else 1),
        vocabulary=backbone.vocabulary_size,
        rope_base_local=float(local.rope_wavelength),
        rope_base_global=float(last.rope_wavelength if last else 1_000_000),
        rms_eps=float(local.layer_norm_epsilon),
    )


def fill(backbone: Any, params: TextParams) -> None:
    """Give a backbone our parameters, widened to float32 and rounded once to its dtype.

    Args:
        backbone: of the same sizes.
        params: ours.

    Raises:
        BadInput: weights with a head of their own.

    Source: keras-hub 0.31.0 `utils/transformers/convert_gemma3.py` and the equations of its layers.
    """
    check_tied(params)
    c = params.config
    heads = (-1, c.head_dim, c.width)
    _assign(backbone.token_embedding.embeddings, _float32(params.embedding))
    for block, layer in zip(backbone.transformer_layers, params.layers, strict=True):
        attention = block.attention
        _assign(block.pre_attention_norm.scale, _float32(layer.pre_attn_norm))
        for dense, weight in (("query", layer.q), ("key", layer.k), ("value", layer.v)):
            kernel = getattr(attention, f"{dense}_dense").kernel
            _assign(kernel, _float32(weight).reshape(heads).transpose(0, 2, 1))  # N D H
        _assign(attention.query_norm.scale, _float32(layer.q_norm))
        _assign(attention.key_norm.scale, _float32(layer.k_norm))
        out = _float32(layer.attn_out).reshape(c.width, c.query_heads, c.head_dim)
        _assign(attention.output_dense.kernel, out.transpose(1, 2, 0))  # N H D
        _assign(block.post_attention_norm.scale, _float32(layer.post_attn_norm))
        _assign(block.pre_ffw_norm.scale, _float32(layer.pre_ffn_norm))
        _assign(block.gating_ffw.kernel, _float32(layer.gate).T)
        _assign(block.gating_ffw_2.kernel, _float32(layer.up).T)
        _assign(block.ffw_linear.kernel, _float32(layer.down).T)
        _assign(block.post_ffw_norm.scale, _float32(layer.post_ffn_norm))
    _assign(backbone.layer_norm.scale, _float32(params.final_norm))


def _assign(variable, value) -> None:
    variable.assign(value.astype(ml_dtypes.bfloat16 if variable.dtype == "bfloat16" else variable.dtype))


def _float32(weight) -> np.ndarray:
    return np.asarray(widen_jit(weight), np.float32)
