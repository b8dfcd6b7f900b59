"""Mistakes at the two ends of the text model: embedding, merge with images, head; and in the residual stream."""

import numpy as np

from ref.emulate.graph import L
from ref.model.inputs import insert
from ref.mutants.base import TapMutant
from ref.ops.rounding import bfloat16_values


def _embed(c, scale):
    return c.a.embed(c.world.ids, c.world.table, scale)


def _rounded_scale(c):
    return _embed(c, float(bfloat16_values(np.array([np.sqrt(c.c.width)], np.float32))[0]))


def _next_row(c):
    ids = np.minimum(c.world.ids + 1, c.world.table.shape[0] - 1)
    return c.a.embed(ids, c.world.table, np.sqrt(np.float64(c.c.width)))


def _merge(c, rows):
    return insert(c["text.embed"], rows, c.world.places)


def _shifted_rows(c):
    rows = c["vision.soft_tokens"]
    return _merge(c, np.roll(rows.reshape(-1, rows.shape[-1]), 1, axis=0))


def _clipped(c):
    return c.a.linear(c["text.final_norm"], c.world.table)


def _softcap(c):
    return 30 * np.tanh(_clipped(c) / 30)


def _scaled_head(c):
    return _clipped(c) * c.a.dtype(np.sqrt(c.c.width))


def _scaled_down_head(c):
    return _clipped(c) / c.a.dtype(np.sqrt(c.c.width))


def _root(c):
    return c.a.dtype(np.sqrt(c.c.width))


S91, E14 = "GEMMA3_SPEC 9.1", "ECOSYSTEM 1.4"
# fmt: off
END_MUTANTS = [
    TapMutant("embed_unscaled", "Embeddings are not multiplied by sqrt(D).", f"{S91} (18)", "any input",
              {"text.embed": lambda c: _embed(c, 1.0)}),
    TapMutant("embed_scale_bfloat16", "sqrt(D) is rounded to bfloat16 in a float32 run: 640 gives 25.25, not 25.298.",
              f"{S91} (18); transformers #38702; MLX, gemma.cpp", "float32",
              {"text.embed": _rounded_scale}, True, wide=True),
    TapMutant("embed_scaled_twice", "sqrt(D) is folded into the table and applied again.", f"{S91} (18)", "any input",
              {"text.embed": lambda c: _embed(c, float(c.c.width))}),
    TapMutant("embed_scale_inverse", "Embeddings are divided by sqrt(D).", f"{S91} (18)", "any input",
              {"text.embed": lambda c: _embed(c, 1 / np.sqrt(c.c.width))}),
    TapMutant("embed_row_off_by_one", "Each id looks up the next row, as after a resized vocabulary.",
              "transformers #37011", "any input", {"text.embed": _next_row}),
    TapMutant("images_scaled", "Image rows are multiplied by sqrt(D) like embeddings.", f"{S91} (18)", "an image",
              {"model.merged": lambda c: _merge(c, c["vision.soft_tokens"] * _root(c))}),
    TapMutant("images_divided", "Image rows are divided by sqrt(D), for a factor that is never applied.",
              "mlx-vlm's merge", "an image",
              {"model.merged": lambda c: _merge(c, c["vision.soft_tokens"] / _root(c))}),
    TapMutant("images_in_reverse_order", "The features of several images are inserted last image first.",
              f"{S91} (38)", "two images in one prompt",
              {"model.merged": lambda c: _merge(c, c["vision.soft_tokens"][::-1])}),
    TapMutant("image_rows_shifted", "Image rows stand one place too late.", f"{S91} (38)", "an image",
              {"model.merged": _shifted_rows}),
    TapMutant("image_rows_ignored", "The soft tokens keep their embeddings: features are never inserted.",
              "llama.cpp #12433; kekzl/imp #489", "an image", {"model.merged": lambda c: c["text.embed"]}),
    TapMutant("final_softcap", "Logits go through the softcap of Gemma 2: 30 tanh(x / 30).",
              f"{S91} (19); Ollama #13474", "logits of 10 and more", {"text.logits": _softcap}),
    TapMutant("head_scaled", "The head uses the embedding times sqrt(D).", f"{S91} (18)", "any input",
              {"text.logits": _scaled_head}),
    TapMutant("head_scaled_down", "The head divides by sqrt(D).", f"{S91} (18)", "any input",
              {"text.logits": _scaled_down_head}),
    TapMutant("attn_residual_missing", "The residual stream is not added after attention.", f"{E14}, norm placement",
              "any input", {L + "mid": lambda c: c["attn.post_norm"]}),
    TapMutant("ffn_residual_missing", "The residual stream is not added after the feed-forward network.", f"{E14}",
              "any input", {L + "out": lambda c: c["ffn.post_norm"]}),
    TapMutant("residual_from_normed", "What is added to attention's output is the normed row, not the stream.",
              f"{E14}, norm placement", "any input",
              {L + "mid": lambda c: c.a.add(c["attn.pre_norm"], c["attn.post_norm"])}),
    TapMutant("ffn_residual_from_in", "The feed-forward output is added to the stream before attention.", f"{E14}",
              "any input", {L + "out": lambda c: c.a.add(c["in"], c["ffn.post_norm"])}),
    TapMutant("parallel_block", "The feed-forward network is given the stream before attention, as in GPT-J.",
              f"{E14}, norm placement", "any input",
              {L + "ffn.pre_norm": lambda c: c.a.rms_norm(c["in"], c.w("pre_ffn_norm"), c.c.rms_eps)}),
    TapMutant("layer_in_swapped", "A layer is given the stream of before the last half block (mid, not out).", f"{E14}",
              "two layers", {L + "in": lambda c: c[f"text.layer.{c.layer - 1}.mid"] if c.layer else c["text.embed"]}),
]
# fmt: on
