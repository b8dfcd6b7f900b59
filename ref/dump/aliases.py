"""Aliases: what other implementations call our taps, and how their axes lie. One table a naming; data, not code.

A line is a foreign name, our tap and, where the axes are not the registry's, a rearrangement as einops writes it, in
the axis letters of `help(ref)` (lower case; i and j are rows and columns of patches). `{i}` is a layer from 0, `L.`
stands for `text.layer.{i}.`, `V.` for `vision.layer.{i}.`. `name.input` is what goes into a module, the plain name
what comes out. Fused values say which part of which axis is meant. A line with `-` is a value that is known and no
tap, and why. `ref.dump.find_tap` finds a name in them.

The tables were read in transformers 5.23.0, google-deepmind/gemma 3.3.0 (paths of flax `capture_intermediates`, run
once to see them), llama.cpp 0c1e57098, keras-hub 71453d0, mlx-lm d78bf58 and TransformerLens 4cd36aa.
"""

import re
from typing import NamedTuple

from ref.dump.llama_cpp_names import LAYER_NODES, OTHER_NODES
from ref.model.taps import tap_row

# Names of modules that transformers, mlx-lm and engines built after them (vLLM, SGLang: fused projections) share
HUGGING_FACE = """
layers.{i}.input                        L.in
layers.{i}.input_layernorm.input        L.in
layers.{i}.input_layernorm              L.attn.pre_norm
layers.{i}.self_attn.input              L.attn.pre_norm
layers.{i}.self_attn.q_proj.input       L.attn.pre_norm
layers.{i}.self_attn.k_proj.input       L.attn.pre_norm
layers.{i}.self_attn.v_proj.input       L.attn.pre_norm
layers.{i}.self_attn.qkv_proj.input     L.attn.pre_norm
layers.{i}.self_attn.q_proj             L.attn.q            b t (n h) -> b t n h
layers.{i}.self_attn.k_proj             L.attn.k            b t (k h) -> b t k h
layers.{i}.self_attn.v_proj             L.attn.v            b t (k h) -> b t k h
layers.{i}.self_attn.qkv_proj           L.attn.q            b t (n h) -> b t n h    axis -1, 0 of (n h)|(k h)|(k h)
layers.{i}.self_attn.qkv_proj           L.attn.k            b t (k h) -> b t k h    axis -1, 1 of (n h)|(k h)|(k h)
layers.{i}.self_attn.qkv_proj           L.attn.v            b t (k h) -> b t k h    axis -1, 2 of (n h)|(k h)|(k h)
layers.{i}.self_attn.q_norm.input       L.attn.q            b n t h -> b t n h
layers.{i}.self_attn.k_norm.input       L.attn.k            b k t h -> b t k h
layers.{i}.self_attn.q_norm             L.attn.q_norm       b n t h -> b t n h
layers.{i}.self_attn.k_norm             L.attn.k_norm       b k t h -> b t k h
layers.{i}.self_attn.o_proj.input       L.attn.mix          b t (n h) -> b t n h
layers.{i}.self_attn.o_proj             L.attn.out
layers.{i}.self_attn                    L.attn.out
layers.{i}.post_attention_layernorm.input   L.attn.out
layers.{i}.post_attention_layernorm     L.attn.post_norm
layers.{i}.pre_feedforward_layernorm.input  L.mid
layers.{i}.pre_feedforward_layernorm    L.ffn.pre_norm
layers.{i}.mlp.input                    L.ffn.pre_norm
layers.{i}.mlp.gate_proj.input          L.ffn.pre_norm
layers.{i}.mlp.up_proj.input            L.ffn.pre_norm
layers.{i}.mlp.gate_up_proj.input       L.ffn.pre_norm
layers.{i}.mlp.gate_proj                L.ffn.gate
layers.{i}.mlp.up_proj                  L.ffn.up
layers.{i}.mlp.gate_up_proj             L.ffn.gate          b t f -> b t f          axis -1, 0 of f|f
layers.{i}.mlp.gate_up_proj             L.ffn.up            b t f -> b t f          axis -1, 1 of f|f
layers.{i}.mlp.down_proj.input          L.ffn.act
layers.{i}.mlp.down_proj                L.ffn.out
layers.{i}.mlp                          L.ffn.out
layers.{i}.post_feedforward_layernorm.input  L.ffn.out
layers.{i}.post_feedforward_layernorm   L.ffn.post_norm
layers.{i}                              L.out
norm.input                              text.layer.{last}.out
norm                                    text.final_norm
lm_head.input                           text.final_norm
lm_head                                 text.logits
logits                                  text.logits
"""
TRANSFORMERS = """
embed_tokens                            text.embed
layers.{i}.self_attn.0                  L.attn.out
layers.{i}.self_attn.1                  L.attn.probs
layers.{i}.0                            L.out
layers.{i}.mlp.act_fn.input             L.ffn.gate
layers.{i}.mlp.act_fn                   -    GELU of the gate alone, not yet multiplied by ffn.up
rotary_emb                              -    cosines and sines, which are no tap
rotary_emb.0                            -    cosines, which are no tap
rotary_emb.1                            -    sines, which are no tap
rotary_emb.input                        -    read for its dtype alone
attentions.{i}                          L.attn.probs
hidden_states.{i}                       hidden state {i}
past_key_values.{i}.keys                L.cache.k           b k s h -> b s k h
past_key_values.{i}.values              L.cache.v           b k s h -> b s k h
language_model.input                    model.merged
pixel_values                            vision.pixels
vision_tower.input                      vision.pixels
vision_tower.embeddings.patch_embedding.input   vision.pixels
vision_tower.embeddings.patch_embedding     vision.patch_embed  b d i j -> b (i j) d
vision_tower.embeddings.position_embedding      -           parameters, not a value of the pass
vision_tower.embeddings.input           vision.pixels
vision_tower.embeddings                 vision.embed
vision_tower.encoder.layers.{i}.input   V.in
vision_tower.encoder.layers.{i}.layer_norm1.input   V.in
vision_tower.encoder.layers.{i}.layer_norm1     V.attn.pre_norm
vision_tower.encoder.layers.{i}.self_attn.input     V.attn.pre_norm
vision_tower.encoder.layers.{i}.self_attn.q_proj.input      V.attn.pre_norm
vision_tower.encoder.layers.{i}.self_attn.k_proj.input      V.attn.pre_norm
vision_tower.encoder.layers.{i}.self_attn.v_proj.input      V.attn.pre_norm
vision_tower.encoder.layers.{i}.self_attn.q_proj    V.attn.q    b p (n h) -> b p n h
vision_tower.encoder.layers.{i}.self_attn.k_proj    V.attn.k    b p (n h) -> b p n h
vision_tower.encoder.layers.{i}.self_attn.v_proj    V.attn.v    b p (n h) -> b p n h
vision_tower.encoder.layers.{i}.self_attn.out_proj.input    V.attn.mix  b p (n h) -> b p n h
vision_tower.encoder.layers.{i}.self_attn.out_proj  V.attn.out
vision_tower.encoder.layers.{i}.self_attn.0     V.attn.out
vision_tower.encoder.layers.{i}.self_attn.1     V.attn.probs
vision_tower.encoder.layers.{i}.layer_norm2.input   V.mid
vision_tower.encoder.layers.{i}.layer_norm2     V.ffn.pre_norm
vision_tower.encoder.layers.{i}.mlp.input       V.ffn.pre_norm
vision_tower.encoder.layers.{i}.mlp.fc1.input   V.ffn.pre_norm
vision_tower.encoder.layers.{i}.mlp.fc1         V.ffn.up
vision_tower.encoder.layers.{i}.mlp.activation_fn.input     V.ffn.up
vision_tower.encoder.layers.{i}.mlp.activation_fn   V.ffn.act
vision_tower.encoder.layers.{i}.mlp.fc2.input   V.ffn.act
vision_tower.encoder.layers.{i}.mlp.fc2         V.ffn.out
vision_tower.encoder.layers.{i}.mlp             V.ffn.out
vision_tower.encoder.layers.{i}                 V.out
vision_tower.encoder.input              vision.embed
vision_tower.post_layernorm.input       vision.layer.{last}.out
vision_tower.post_layernorm             vision.post_norm
multi_modal_projector.input             vision.post_norm
multi_modal_projector.avg_pool          vision.pool         b d i j -> b (i j) d
multi_modal_projector.avg_pool.input    vision.post_norm    b d i j -> b (i j) d
multi_modal_projector.mm_soft_emb_norm.input    vision.pool
multi_modal_projector.mm_soft_emb_norm  vision.soft_norm
multi_modal_projector                   vision.soft_tokens
"""
MLX = """
embed_tokens            -    not yet multiplied by sqrt(D): text.embed is layers.0.input
layers.{i}.self_attn.rope    -    called twice: name them as our taps attn.q_rope and attn.k_rope
"""
GEMMA = """
embedder.encode                         text.embed
layer_{i}.pre_attention_norm            L.attn.pre_norm
layer_{i}.attn.q_einsum                 L.attn.q
layer_{i}.attn.kv_einsum                L.attn.k            1 b t k h -> b t k h    axis 0, 0 of 1|1
layer_{i}.attn.kv_einsum                L.attn.v            1 b t k h -> b t k h    axis 0, 1 of 1|1
layer_{i}.attn.qkv_einsum               L.attn.q            1 b t n h -> b t n h    axis 0, 0 of 1|1|1
layer_{i}.attn.qkv_einsum               L.attn.k            1 b t k h -> b t k h    axis 0, 1 of 1|1|1
layer_{i}.attn.qkv_einsum               L.attn.v            1 b t k h -> b t k h    axis 0, 2 of 1|1|1
layer_{i}.attn._query_norm              L.attn.q_norm
layer_{i}.attn._key_norm                L.attn.k_norm
layer_{i}.attn.attention_weights        L.attn.probs        b t n s -> b n t s
layer_{i}.attn.attn_vec_einsum          L.attn.out
layer_{i}.attn.__call__.0.1             L.attn.out
layer_{i}.post_attention_norm           L.attn.post_norm
layer_{i}.pre_ffw_norm                  L.ffn.pre_norm
layer_{i}.mlp.__call__.0                L.ffn.gate          b t 1 f -> b t f        axis -2, 0 of 1|1
layer_{i}.mlp.__call__.0                L.ffn.up            b t 1 f -> b t f        axis -2, 1 of 1|1
layer_{i}.mlp.gating_einsum             L.ffn.gate          b t 1 f -> b t f        axis -2, 0 of 1|1
layer_{i}.mlp.gating_einsum             L.ffn.up            b t 1 f -> b t f        axis -2, 1 of 1|1
layer_{i}.mlp.__call__.1                L.ffn.out
layer_{i}.mlp.__call__.2                L.ffn.out
layer_{i}.mlp.linear                    L.ffn.out
layer_{i}.mlp                           L.ffn.out
layer_{i}.post_ffw_norm                 L.ffn.post_norm
layer_{i}.__call__.0.1                  L.out
layer_{i}                               L.out
final_norm                              text.final_norm
embedder.decode                         text.logits
logits                                  text.logits
siglip_encoder.embedding                vision.patch_embed  b i j d -> b (i j) d
siglip_encoder.Dropout_0                vision.embed
siglip_encoder.Transformer.encoderblock_{i}.LayerNorm_0     V.attn.pre_norm
siglip_encoder.Transformer.encoderblock_{i}.MultiHeadDotProductAttention_0.query    V.attn.q
siglip_encoder.Transformer.encoderblock_{i}.MultiHeadDotProductAttention_0.key      V.attn.k
siglip_encoder.Transformer.encoderblock_{i}.MultiHeadDotProductAttention_0.value    V.attn.v
siglip_encoder.Transformer.encoderblock_{i}.MultiHeadDotProductAttention_0          V.attn.out
siglip_encoder.Transformer.encoderblock_{i}.LayerNorm_1     V.ffn.pre_norm
siglip_encoder.Transformer.encoderblock_{i}.MlpBlock_0.Dense_0      V.ffn.up
siglip_encoder.Transformer.encoderblock_{i}.MlpBlock_0.Dropout_0    V.ffn.act
siglip_encoder.Transformer.encoderblock_{i}.MlpBlock_0      V.ffn.out
siglip_encoder.Transformer.encoderblock_{i}     V.out
siglip_encoder.Transformer.encoder_norm         vision.post_norm
siglip_exit                             vision.pool
embedder.mm_soft_embedding_norm         vision.soft_norm    1 b m d -> b m d
embedder.mm_input_projection            vision.soft_tokens  1 b m d -> b m d
"""
KERAS = """
token_embedding         -    not yet multiplied by sqrt(D): text.embed is decoder_block_0.input
decoder_block_{i}.input                 L.in
decoder_block_{i}.pre_attention_norm    L.attn.pre_norm
decoder_block_{i}.attention.query       L.attn.q
decoder_block_{i}.attention.key         L.attn.k
decoder_block_{i}.attention.value       L.attn.v
decoder_block_{i}.attention.query_norm  L.attn.q_norm
decoder_block_{i}.attention.key_norm    L.attn.k_norm
decoder_block_{i}.attention.rotary_embedding    -    called twice: name them as our taps attn.q_rope and attn.k_rope
decoder_block_{i}.attention.softmax     L.attn.probs        b k g t s -> b (k g) t s
decoder_block_{i}.attention.attention_output.input  L.attn.mix
decoder_block_{i}.attention.attention_output        L.attn.out
decoder_block_{i}.attention             L.attn.out
decoder_block_{i}.post_attention_norm   L.attn.post_norm
decoder_block_{i}.pre_ffw_norm.input    L.mid
decoder_block_{i}.pre_ffw_norm          L.ffn.pre_norm
decoder_block_{i}.ffw_gating            L.ffn.gate
decoder_block_{i}.ffw_gating_2          L.ffn.up
decoder_block_{i}.ffw_linear.input      L.ffn.act
decoder_block_{i}.ffw_linear            L.ffn.out
decoder_block_{i}.post_ffw_norm         L.ffn.post_norm
decoder_block_{i}                       L.out
final_normalization                     text.final_norm
logits                                  text.logits
encoder_embeddings.embedding_conv       vision.patch_embed  b i j d -> b (i j) d
encoder_embeddings                      vision.embed
encoder_block_{i}.input                 V.in
encoder_block_{i}.layer_norm_1          V.attn.pre_norm
encoder_block_{i}.multi_head_attention.query_proj   V.attn.q    b p (n h) -> b p n h
encoder_block_{i}.multi_head_attention.key_proj     V.attn.k    b p (n h) -> b p n h
encoder_block_{i}.multi_head_attention.value_proj   V.attn.v    b p (n h) -> b p n h
encoder_block_{i}.multi_head_attention.out_proj.input   V.attn.mix  b p (n h) -> b p n h
encoder_block_{i}.multi_head_attention.out_proj     V.attn.out
encoder_block_{i}.layer_norm_2.input    V.mid
encoder_block_{i}.layer_norm_2          V.ffn.pre_norm
encoder_block_{i}.mlp_dense_1           V.ffn.up
encoder_block_{i}.mlp_dense_2.input     V.ffn.act
encoder_block_{i}.mlp_dense_2           V.ffn.out
encoder_block_{i}                       V.out
encoder_layer_norm                      vision.post_norm
pooling                                 vision.pool
vision_soft_embedding_norm              vision.soft_norm
vision_input_projection                 vision.soft_tokens
"""
TRANSFORMER_LENS = """
hook_embed                              text.embed
blocks.{i}.hook_resid_pre               L.in
blocks.{i}.ln1.hook_normalized          -    before the gain is applied: attn.pre_norm is after it
blocks.{i}.attn.hook_q                  L.attn.q
blocks.{i}.attn.hook_k                  L.attn.k
blocks.{i}.attn.hook_v                  L.attn.v
blocks.{i}.attn.q_norm.hook_normalized  -    before the gain is applied: attn.q_norm is after it
blocks.{i}.attn.k_norm.hook_normalized  -    before the gain is applied: attn.k_norm is after it
blocks.{i}.attn.hook_rot_q              L.attn.q_rope
blocks.{i}.attn.hook_rot_k              L.attn.k_rope
blocks.{i}.attn.hook_attn_scores        -    masked there: attn.scores is not
blocks.{i}.attn.hook_pattern            L.attn.probs
blocks.{i}.attn.hook_z                  L.attn.mix
blocks.{i}.attn.hook_result             -    the output projection head by head: attn.out is their sum
blocks.{i}.hook_attn_out                L.attn.post_norm
blocks.{i}.ln1_post.hook_normalized     -    before the gain is applied: attn.post_norm is after it
blocks.{i}.hook_resid_mid               L.mid
blocks.{i}.ln2.hook_normalized          -    before the gain is applied: ffn.pre_norm is after it
blocks.{i}.mlp.hook_pre                 L.ffn.gate
blocks.{i}.mlp.hook_pre_linear          L.ffn.up
blocks.{i}.mlp.hook_post                L.ffn.act
blocks.{i}.hook_mlp_out                 L.ffn.post_norm
blocks.{i}.ln2_post.hook_normalized     -    before the gain is applied: ffn.post_norm is after it
blocks.{i}.hook_resid_post              L.out
ln_final.hook_normalized                -    before the gain is applied: text.final_norm is after it
logits                                  text.logits
"""
# ggml's sizes: the contiguous axis first, always four of them
GGML_AXES = {"B T D": "d t b 1", "B T F": "f t b 1", "B T V": "v t b 1", "B N T S": "s t n b"}
FLAT_IN_GGML = ("attn.q", "attn.k", "attn.v", "attn.mix")  # no axis of heads there


Part = tuple[int, int, tuple[str, ...]]  # axis, number of the part, how long each part is, in letters


class Alias(NamedTuple):
    """One line of a table."""

    tap: str  # with {i}, {last}; empty where the value is no tap
    how: str = ""  # einops; empty: the registry's axes
    part: Part | None = None
    why: str = ""  # it is no tap


class Table(NamedTuple):
    """A naming: its lines, and what may stand before and behind a name."""

    rows: dict[str, list[Alias]]
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()


def _read(*texts: str) -> dict[str, list[Alias]]:
    rows: dict[str, list[Alias]] = {}
    for line in "\n".join(texts).strip().splitlines():
        if not line:
            continue
        foreign, tap, *rest = re.split(r"\s{2,}", line.strip())
        if tap == "-":
            rows.setdefault(foreign, []).append(Alias("", why=rest[0]))
            continue
        tap = re.sub(r"^L\.", "text.layer.{i}.", re.sub(r"^V\.", "vision.layer.{i}.", tap))
        part = re.fullmatch(r"axis (-?\d), (\d) of (.+)", rest[1]) if rest[1:] else None
        which = (int(part[1]), int(part[2]), tuple(part[3].split("|"))) if part else None
        rows.setdefault(foreign, []).append(Alias(tap, rest[0] if rest else "", which))
    return rows


def _llama_cpp() -> dict[str, list[Alias]]:
    """List llama.cpp's nodes: `Qcur-3:ROPE` always, `attn_norm-3` where no other tap has that name."""
    rows: dict[str, list[Alias]] = {}
    for (stem, op), inside in LAYER_NODES.items():
        row = tap_row(f"text.layer.0.{inside}")
        assert row is not None
        left = " ".join(reversed(row.axes.lower().split()))
        if inside in FLAT_IN_GGML:
            left = f"({row.axes.lower()[4:]}) t b 1"
        alias = Alias(f"text.layer.{{i}}.{inside}", f"{GGML_AXES.get(row.axes, left)} -> {row.axes.lower()}")
        rows[f"{stem}-{{i}}:{op}"] = [alias]
        plain = f"{stem}-{{i}}"
        if plain in rows and rows[plain] != [alias]:
            several = " or ".join(f"{plain}:{one}" for name, one in LAYER_NODES if name == stem)
            rows[plain] = [Alias("", why=f"several nodes of a layer have this name: write {several}")]
        else:
            rows[plain] = [alias]
    for (stem, op), tap in OTHER_NODES.items():
        row = tap_row(tap)
        assert row is not None
        rows[stem] = rows[f"{stem}:{op}"] = [Alias(tap, f"{GGML_AXES[row.axes]} -> {row.axes.lower()}")]
    return rows


MODEL_CLASSES = ("Gemma3ForCausalLM.", "Gemma3ForConditionalGeneration.", "Gemma3TextModel.", "Gemma3Model.")
WRAPPERS = ("_orig_mod.", "module.", "model.", "language_model.", "text_model.")
TABLES = {
    "ref": Table({}),
    "transformers": Table(_read(HUGGING_FACE, TRANSFORMERS), (*MODEL_CLASSES, *WRAPPERS)),
    "gemma": Table(
        _read(GEMMA), ("intermediates.", "Transformer_0.", "vision_encoder."), (".__call__.0", ".__call__", ".0")
    ),
    "llama.cpp": Table(_llama_cpp()),
    "keras": Table(
        _read(KERAS),
        ("gemma3_backbone.", "backbone.", "gemma3_vision_encoder.", "vision_encoder.", "image_encoder.",
         "vision_output_encoder."),
    ),
    "mlx": Table(_read(HUGGING_FACE, MLX), ("model.", "language_model.")),
    "transformer_lens": Table(_read(TRANSFORMER_LENS)),
}  # fmt: skip
