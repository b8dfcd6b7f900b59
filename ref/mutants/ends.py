"""Mistakes at the two ends of the text model: embedding, merge with images, head; and in the residual stream."""

import numpy as np

from ref.emulate.text_rules import LAYER
from ref.model.inputs import insert
from ref.mutants.base import TapMutant
from ref.ops.rounding import bfloat16_values


def _embed(at, scale):
    return at.ops.embed(at.one_pass.ids, at.one_pass.table, scale)


def _rounded_scale(at):
    return _embed(at, float(bfloat16_values(np.array([np.sqrt(at.config.width)], np.float32))[0]))


def _next_row(at):
    ids = np.minimum(at.one_pass.ids + 1, at.one_pass.table.shape[0] - 1)
    return at.ops.embed(ids, at.one_pass.table, np.sqrt(np.float64(at.config.width)))


def _merge(at, rows):
    return insert(at["text.embed"], rows, at.one_pass.places)


def _shifted_rows(at):
    rows = at["vision.soft_tokens"]
    return _merge(at, np.roll(rows.reshape(-1, rows.shape[-1]), 1, axis=0))


def _clipped(at):
    return at.ops.linear(at["text.final_norm"], at.one_pass.table)


def _softcap(at):
    return 30 * np.tanh(_clipped(at) / 30)


def _scaled_head(at):
    return _clipped(at) * at.ops.dtype(np.sqrt(at.config.width))


def _scaled_down_head(at):
    return _clipped(at) / at.ops.dtype(np.sqrt(at.config.width))


def _root(at):
    return at.ops.dtype(np.sqrt(at.config.width))


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
END_MUTANTS = [
    TapMutant(
        "embed_unscaled",
        "Embeddings are not multiplied by sqrt(D).",
        f"{S91} (18)",
        "any input",
        {"text.embed": lambda at: _embed(at, 1.0)},
    ),
    TapMutant(
        "embed_scale_bfloat16",
        "sqrt(D) is rounded to bfloat16 in a float32 run: 640 gives 25.25, not 25.298.",
        f"{S91} (18); transformers #38702; MLX, gemma.cpp",
        "float32",
        {"text.embed": _rounded_scale},
        True,
        wide=True,
    ),
    TapMutant(
        "embed_scaled_twice",
        "sqrt(D) is folded into the table and applied again.",
        f"{S91} (18)",
        "any input",
        {"text.embed": lambda at: _embed(at, float(at.config.width))},
    ),
    TapMutant(
        "embed_scale_inverse",
        "Embeddings are divided by sqrt(D).",
        f"{S91} (18)",
        "any input",
        {"text.embed": lambda at: _embed(at, 1 / np.sqrt(at.config.width))},
    ),
    TapMutant(
        "embed_row_off_by_one",
        "Each id looks up the next row, as after a resized vocabulary.",
        "transformers #37011",
        "any input",
        {"text.embed": _next_row},
    ),
    TapMutant(
        "images_scaled",
        "Image rows are multiplied by sqrt(D) like embeddings.",
        f"{S91} (18)",
        "an image",
        {"model.merged": lambda at: _merge(at, at["vision.soft_tokens"] * _root(at))},
    ),
    TapMutant(
        "images_divided",
        "Image rows are divided by sqrt(D), for a factor that is never applied.",
        "mlx-vlm's merge",
        "an image",
        {"model.merged": lambda at: _merge(at, at["vision.soft_tokens"] / _root(at))},
    ),
    TapMutant(
        "images_in_reverse_order",
        "The features of several images are inserted last image first.",
        f"{S91} (38)",
        "two images in one prompt",
        {"model.merged": lambda at: _merge(at, at["vision.soft_tokens"][::-1])},
    ),
    TapMutant(
        "image_rows_shifted",
        "Image rows stand one place too late.",
        f"{S91} (38)",
        "an image",
        {"model.merged": _shifted_rows},
    ),
    TapMutant(
        "image_rows_ignored",
        "The soft tokens keep their embeddings: features are never inserted.",
        "llama.cpp #12433; kekzl/imp #489",
        "an image",
        {"model.merged": lambda at: at["text.embed"]},
    ),
    TapMutant(
        "final_softcap",
        "Logits go through the softcap of Gemma 2: 30 tanh(x / 30).",
        f"{S91} (19); Ollama #13474",
        "logits of 10 and more",
        {"text.logits": _softcap},
    ),
    TapMutant(
        "head_scaled",
        "The head uses the embedding times sqrt(D).",
        f"{S91} (18)",
        "any input",
        {"text.logits": _scaled_head},
    ),
    TapMutant(
        "head_scaled_down",
        "The head divides by sqrt(D).",
        f"{S91} (18)",
        "any input",
        {"text.logits": _scaled_down_head},
    ),
    TapMutant(
        "attn_residual_missing",
        "The residual stream is not added after attention.",
        f"{E14}, norm placement",
        "any input",
        {LAYER + "mid": lambda at: at["attn.post_norm"]},
    ),
    TapMutant(
        "ffn_residual_missing",
        "The residual stream is not added after the feed-forward network.",
        f"{E14}",
        "any input",
        {LAYER + "out": lambda at: at["ffn.post_norm"]},
    ),
    TapMutant(
        "residual_from_normed",
        "What is added to attention's output is the normed row, not the stream.",
        f"{E14}, norm placement",
        "any input",
        {LAYER + "mid": lambda at: at.ops.add(at["attn.pre_norm"], at["attn.post_norm"])},
    ),
    TapMutant(
        "ffn_residual_from_in",
        "The feed-forward output is added to the stream before attention.",
        f"{E14}",
        "any input",
        {LAYER + "out": lambda at: at.ops.add(at["in"], at["ffn.post_norm"])},
    ),
    TapMutant(
        "parallel_block",
        "The feed-forward network is given the stream before attention, as in GPT-J.",
        f"{E14}, norm placement",
        "any input",
        {LAYER + "ffn.pre_norm": lambda at: at.ops.rms_norm(at["in"], at.vector("pre_ffn_norm"), at.config.rms_eps)},
    ),
    TapMutant(
        "layer_in_swapped",
        "A layer is given the stream of before the last half block (mid, not out).",
        f"{E14}",
        "two layers",
        {LAYER + "in": lambda at: at[f"text.layer.{at.layer - 1}.mid"] if at.layer else at["text.embed"]},
    ),
]
