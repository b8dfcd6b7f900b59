"""Mistakes at the two ends of the text model: embedding, merge with images, head; and in the residual stream."""

import numpy as np

from ref.emulate.text_rules import LAYER
from ref.model.inputs import insert
from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs
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
    return at.ops.linear(at["text.final_norm"], at.one_pass.head)


def _softcap(at):
    return 30 * np.tanh(_clipped(at) / 30)


def _scaled_head(at):
    return _clipped(at) * at.ops.dtype(np.sqrt(at.config.width))


def _scaled_down_head(at):
    return _clipped(at) / at.ops.dtype(np.sqrt(at.config.width))


def _root(at):
    return at.ops.dtype(np.sqrt(at.config.width))


END_MUTANTS = [
    TapMutant(
        name="embed_unscaled",
        what="Embeddings are not multiplied by sqrt(D).",
        needs=Needs(),
        rules={"text.embed": lambda at: _embed(at, 1.0)},
    ),
    TapMutant(
        name="embed_scale_bfloat16",
        what="sqrt(D) is rounded to bfloat16 in a float32 run: 640 gives 25.25, not 25.298.",
        needs=Needs(float32=True, note="a width whose root bfloat16 does not hold"),
        rules={"text.embed": _rounded_scale},
        subtle=True,
        wide=True,
    ),
    TapMutant(
        name="embed_scaled_twice",
        what="sqrt(D) is folded into the table and applied again.",
        needs=Needs(),
        rules={"text.embed": lambda at: _embed(at, float(at.config.width))},
    ),
    TapMutant(
        name="embed_scale_inverse",
        what="Embeddings are divided by sqrt(D).",
        needs=Needs(),
        rules={"text.embed": lambda at: _embed(at, 1 / np.sqrt(at.config.width))},
    ),
    TapMutant(
        name="embed_row_off_by_one",
        what="Each id looks up the next row, as after a resized vocabulary.",
        needs=Needs(),
        rules={"text.embed": _next_row},
    ),
    TapMutant(
        name="images_scaled",
        what="Image rows are multiplied by sqrt(D) like embeddings.",
        needs=Needs(image="one"),
        rules={"model.merged": lambda at: _merge(at, at["vision.soft_tokens"] * _root(at))},
    ),
    TapMutant(
        name="images_divided",
        what="Image rows are divided by sqrt(D), for a factor that is never applied.",
        needs=Needs(image="one"),
        rules={"model.merged": lambda at: _merge(at, at["vision.soft_tokens"] / _root(at))},
    ),
    TapMutant(
        name="images_in_reverse_order",
        what="The features of several images are inserted last image first.",
        needs=Needs(images=2),
        rules={"model.merged": lambda at: _merge(at, at["vision.soft_tokens"][::-1])},
    ),
    TapMutant(
        name="image_rows_shifted",
        what="Image rows stand one place too late.",
        needs=Needs(image="one"),
        rules={"model.merged": _shifted_rows},
    ),
    TapMutant(
        name="image_rows_ignored",
        what="The soft tokens keep their embeddings: features are never inserted.",
        needs=Needs(image="one"),
        rules={"model.merged": lambda at: at["text.embed"]},
    ),
    TapMutant(
        name="final_softcap",
        what="Logits go through the softcap of Gemma 2: 30 tanh(x / 30).",
        needs=Needs(note="logits of 10 and more"),
        rules={"text.logits": _softcap},
    ),
    TapMutant(
        name="head_scaled",
        what="The head uses the embedding times sqrt(D).",
        needs=Needs(),
        rules={"text.logits": _scaled_head},
    ),
    TapMutant(
        name="head_scaled_down",
        what="The head divides by sqrt(D).",
        needs=Needs(),
        rules={"text.logits": _scaled_down_head},
    ),
    TapMutant(
        name="attn_residual_missing",
        what="The residual stream is not added after attention.",
        needs=Needs(),
        rules={LAYER + "mid": lambda at: at["attn.post_norm"]},
    ),
    TapMutant(
        name="ffn_residual_missing",
        what="The residual stream is not added after the feed-forward network.",
        needs=Needs(),
        rules={LAYER + "out": lambda at: at["ffn.post_norm"]},
    ),
    TapMutant(
        name="residual_from_normed",
        what="What is added to attention's output is the normed row, not the stream.",
        needs=Needs(),
        rules={LAYER + "mid": lambda at: at.ops.add(at["attn.pre_norm"], at["attn.post_norm"])},
    ),
    TapMutant(
        name="ffn_residual_from_in",
        what="The feed-forward output is added to the stream before attention.",
        needs=Needs(),
        rules={LAYER + "out": lambda at: at.ops.add(at["in"], at["ffn.post_norm"])},
    ),
    TapMutant(
        name="parallel_block",
        what="The feed-forward network is given the stream before attention, as in GPT-J.",
        needs=Needs(),
        rules={
            LAYER + "ffn.pre_norm": lambda at: at.ops.rms_norm(at["in"], at.vector("pre_ffn_norm"), at.config.rms_eps)
        },
    ),
    TapMutant(
        name="layer_in_swapped",
        what="A layer is given the stream of before the last half block (mid, not out).",
        needs=Needs(layers=2),
        rules={LAYER + "in": lambda at: at[f"text.layer.{at.layer - 1}.mid"] if at.layer else at["text.embed"]},
    ),
]
