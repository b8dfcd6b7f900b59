"""google-deepmind/gemma's model of given weights: its parts, its configuration and its parameter tree."""

import dataclasses
import warnings
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from ref.capture.common import check_tied
from ref.config import SIZES, TextConfig
from ref.errors import wanted
from ref.model.params import TextParams
from ref.ops.linear import widen_jit

INSTALL = "pip install --no-deps -r golden/make/requirements-gemma-jax.txt, in an environment of its own"
OFFICIAL = {"270m": "Gemma3_270M"}


class Parts(NamedTuple):
    """The modules of google-deepmind/gemma, JAX and flax that a capture uses."""

    jax: Any
    nn: Any  # flax.linen
    config: Any  # gemma.gm.nn._config, and so on
    sizes: Any
    layers: Any
    modules: Any
    rotations: Any
    transformer: Any
    inputs: Any
    version: str


def import_gemma() -> Parts:
    """Import google-deepmind/gemma, or refuse with what to install.

    Raises:
        BadInput: it is not installed, or something that it needs is not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow and its data sets come along
            import jax
            from flax import linen
            from gemma.gm.math import _positional_embeddings
            from gemma.gm.nn import _config, _gemma, _layers, _modules, _transformer
            from gemma.gm.utils import _types
    except ImportError as error:
        raise wanted("google-deepmind/gemma", "capture", INSTALL, str(error).splitlines()[0]) from None
    names = f"{version('gemma')} (jax {jax.__version__})"
    return Parts(jax, linen, _config, _gemma, _layers, _modules, _positional_embeddings, _transformer, _types, names)


def model_of(parts: Parts, config: TextConfig, dtype: str) -> Any:
    """Build the text model: the class of the released size where there is one, `Transformer` with our sizes otherwise.

    Args:
        parts: from `import_gemma`.
        config: the sizes.
        dtype: of parameters that the model would make itself; those it is given decide what it computes in.

    Returns:
        A flax module.

    Source: google-deepmind/gemma 3.3.0 `gm/nn/_gemma.py`, `gm/nn/_config.py`.
    Differs: its configuration derives the query's scale from H, or from D and N; here it may be any number.
    """
    official = getattr(parts.sizes, OFFICIAL.get(config.name, ""), None)
    if official is not None and config_of(parts, official.config) == config:
        return official(dtype=parts.jax.numpy.dtype(dtype))
    kinds = parts.modules.AttentionType

    @dataclasses.dataclass(frozen=True)
    class Scaled(parts.config.TransformerConfig):
        def query_pre_attn_scalar(self):
            return config.query_scale

    sizes = Scaled(
        num_embed=config.vocabulary,
        embed_dim=config.width,
        hidden_dim=config.ffn_width,
        num_heads=config.query_heads,
        head_dim=config.head_dim,
        num_kv_heads=config.kv_heads,
        final_logit_softcap=None,
        use_post_attn_norm=True,
        use_post_ffw_norm=True,
        use_qk_norm=True,
        attention_types=tuple(
            kinds.GLOBAL if config.is_global(i) else kinds.LOCAL_SLIDING for i in range(config.layers)
        ),
        sliding_window_size=config.window,
        transpose_gating_einsum=True,
        local_base_frequency=int(config.rope_base_local),
        global_base_frequency=int(config.rope_base_global),
        global_scale_factor=config.rope_factor,
    )
    return parts.transformer.Transformer(config=sizes, dtype=parts.jax.numpy.dtype(dtype))


def config_of(parts: Parts, config: Any) -> TextConfig:
    """Return what our table would say of a `TransformerConfig`.

    Args:
        parts: from `import_gemma`.
        config: of a Gemma 3; soft caps and a missing norm cannot be said and are left out.

    Raises:
        BadInput: no window, or layers that are not one global after a fixed number of local ones.

    Source: google-deepmind/gemma 3.3.0 `gm/nn/_config.py`.
    Differs: it knows no longest context: that of the released size of as many layers, else 131,072.
    """
    is_global = [kind == parts.modules.AttentionType.GLOBAL for kind in config.attention_types]
    every = is_global.index(True) + 1 if any(is_global) else len(is_global) + 1
    if is_global != [(i + 1) % every == 0 for i in range(len(is_global))]:
        raise wanted("attention_types", "capture", "a global layer after a fixed number of local ones", is_global)
    if config.sliding_window_size is None:
        raise wanted("sliding_window_size", "capture", "a number", None)
    sizes = {(row.layers, row.width, row.vocabulary): row for row in SIZES.values()}
    known = sizes.get((len(is_global), config.embed_dim, config.num_embed))
    return TextConfig(
        name=known.name if known else "gemma",
        width=config.embed_dim,
        layers=len(is_global),
        query_heads=config.num_heads,
        kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        ffn_width=config.hidden_dim,
        query_scale=float(config.query_pre_attn_scalar()),
        window=config.sliding_window_size,
        max_positions=known.max_positions if known else 131_072,
        rope_factor=float(config.global_scale_factor),
        vocabulary=config.num_embed,
        rope_base_local=float(config.local_base_frequency),
        rope_base_global=float(config.global_base_frequency),
        global_every=every,
    )


def params_of(parts: Parts, params: TextParams, dtype: str) -> dict[str, Any]:
    """Return our parameters in google-deepmind/gemma's layout, widened to float32 and rounded once to a dtype.

    Args:
        parts: from `import_gemma`.
        params: ours.
        dtype: float32, bfloat16 or float16.

    Returns:
        The tree that `model.apply({"params": ...}, tokens)` takes.

    Raises:
        BadInput: weights with a head of their own.

    Source: google-deepmind/gemma 3.3.0 `gm/nn/_modules.py`.
    """
    check_tied(params)
    c, numpy = params.config, parts.jax.numpy

    def held(array):
        return numpy.asarray(np.asarray(array, np.float32)).astype(dtype)

    def heads(weight):  # [N*H, D] -> [N, D, H]
        return _float32(weight).reshape(-1, c.head_dim, c.width).transpose(0, 2, 1)

    def scale(weight):
        return {"scale": held(_float32(weight))}

    tree: dict[str, Any] = {"embedder": {"input_embedding": held(_float32(params.embedding))}}
    for i, layer in enumerate(params.layers):
        out = _float32(layer.attn_out).reshape(c.width, c.query_heads, c.head_dim).transpose(1, 2, 0)
        tree[f"layer_{i}"] = {
            "pre_attention_norm": scale(layer.pre_attn_norm),
            "attn": {
                **_inputs(held, heads(layer.q), heads(layer.k), heads(layer.v)),
                "_query_norm": scale(layer.q_norm),
                "_key_norm": scale(layer.k_norm),
                "attn_vec_einsum": {"w": held(out)},
            },
            "post_attention_norm": scale(layer.post_attn_norm),
            "pre_ffw_norm": scale(layer.pre_ffn_norm),
            "mlp": {
                "gating_einsum": held(np.stack([_float32(layer.gate), _float32(layer.up)])),
                "linear": held(_float32(layer.down).T),
            },
            "post_ffw_norm": scale(layer.post_ffn_norm),
        }
    return tree | {"final_norm": scale(params.final_norm)}


def _inputs(held, q, k, v):
    """Return q, k and v as its attention keeps them: all in one where there are as many queries as keys."""
    if len(q) == len(k):
        return {"qkv_einsum": {"w": held(np.stack([q, k, v]))}}
    return {"q_einsum": {"w": held(q)}, "kv_einsum": {"w": held(np.stack([k, v]))}}


def _float32(weight) -> np.ndarray:
    return np.asarray(widen_jit(weight), np.float32)
