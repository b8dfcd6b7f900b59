"""What the Gemma 3 technical report (arXiv 2503.19786) states, in our words, and which functions do it.

A row: section, statement, functions, and patterns of the mistakes that break it. Tests, notebooks and names of mistakes
are found by make_paper.py.
"""

from typing import NamedTuple


class Statement(NamedTuple):
    """A line of the report."""

    section: str
    says: str
    functions: tuple[str, ...]
    mistakes: tuple[str, ...] = ()  # patterns of names in `ref.mutants.tap_mutants`


def _row(section: str, says: str, functions: str, mistakes: str = "") -> Statement:
    return Statement(section, says, tuple(functions.split()), tuple(mistakes.split()))


EARLIER = "2, by reference to Gemma 1 and 2"
STATEMENTS = (
    _row("1", "An image becomes 256 vectors.", "ref.ops.patches.average_pool", "pool_* soft_norm_*"),
    _row(
        "1",
        "Those vectors stand among the tokens as soft tokens.",
        "ref.model.inputs.insert ref.prompt.placeholders.expand_text",
        "images_* image_rows_*",
    ),
    _row("2", "A decoder-only transformer.", "ref.model.text.forward", "*_residual_* parallel_block"),
    _row("2", "Grouped-query attention.", "ref.ops.attention.scores", "gqa_*"),
    _row("2", "RMSNorm.", "ref.ops.norm.rms_norm", "norm_*"),
    _row(
        "2",
        "A norm before and after attention and feed-forward network.",
        "ref.model.block.block",
        "attn_norms_* ffn_norms_* post_* pre_*",
    ),
    _row(
        "2",
        "Queries and keys are normalised.",
        "ref.model.block.attention",
        "q_norm_* k_norm_* qk_norm_* rope_before_norm",
    ),
    _row("2", "The soft cap of Gemma 2 is gone.", "ref.model.text.forward", "*_softcap"),
    _row(
        "2", "Five local layers for every global one, a local one first.", "ref.config.TextConfig.is_global", "layers_*"
    ),
    _row("2", "Local layers attend in a sliding window.", "ref.ops.visibility.visible_keys", "window_*"),
    _row("2", "128K tokens of context, 32K of the 1B.", "ref.config.SIZES ref.model.inputs.check_ids"),
    _row("2", "RoPE's base is 10k in local layers and 1M in global ones.", "ref.config.TextConfig.rope", "rope_*base*"),
    _row(
        "2", "Positions of global layers are interpolated.", "ref.ops.rope.rope_table", "rope_factor_* rope_exponent_*"
    ),
    _row("2, table 1", "Parameters of vision tower, embedding and the rest.", "ref.model.count.count_params"),
    _row(EARLIER, "The embedding is scaled by sqrt(D).", "ref.ops.linear.embed", "embed_*"),
    _row(
        EARLIER, "Rotary position embeddings.", "ref.ops.rope.rotate", "rope_interleaved rope_positions_* rope_b*wards"
    ),
    _row(
        EARLIER, "GeGLU in the feed-forward network.", "ref.ops.gelu.geglu", "gelu_* ffn_silu ffn_relu ffn_no_* gate_*"
    ),
    _row(EARLIER, "The head is the embedding.", "ref.ops.linear.linear", "head_scaled*"),
    _row("2", "Less memory for the KV cache.", "ref.model.cache.extend", "cache_* ring_*"),
    _row(
        "2.1",
        "The vision tower is the 400M SigLIP, a vision transformer.",
        "ref.model.vision.encode_images ref.ops.patches.split_patches",
        "patch_* position_* vision_* layer_norm_*",
    ),
    _row("2.1", "It takes square images of 896 x 896.", "ref.prompt.images.preprocess ref.ops.resize.resize_pillow"),
    _row("2.1", "4B, 12B and 27B share it.", "ref.config.VISION ref.model.count.count_vision"),
    _row("2.1", "Pan & Scan: crops of equal size that cover the image.", "ref.ops.pan_and_scan.crop_boxes"),
    _row(
        "2.1",
        "It cuts only where needed, into a limited number.",
        "ref.ops.pan_and_scan.count_crops ref.ops.pan_and_scan.crop_boxes",
    ),
    _row("2.1", "It belongs to inference and can be off.", "ref.prompt.images.preprocess"),
    _row(
        "2.2",
        "SentencePiece with split digits, whitespace kept, bytes for the rest; 262k entries.",
        "ref.prompt.tokenizer.Tokenizer",
    ),
    _row("2.3", "QAT: the model is trained on for some steps with quantised weights.", "ref.quant.qat.qat_step"),
    _row("2.3", "Its targets are the probabilities of the full model.", "ref.quant.qat.soft_cross_entropy"),
    _row("2.3", "int4 with a scale per channel.", "ref.quant.encode.encode_int4 ref.quant.encode.encode", "int4_*"),
    _row("2.3", "int4 with a scale per block.", "ref.quant.encode.encode_q4_0 ref.quant.encode.encode", "q4_0_*"),
    _row(
        "2.3",
        "Switched fp8.",
        "ref.quant.encode.encode_sfp8 ref.ops.codes.decode_sfp8 ref.quant.encode.encode",
        "sfp8_*",
    ),
    _row("2.3, table 3", "Memory of weights, and of the cache for 32K tokens.", "ref.quant.memory.memory"),
    _row("3, table 4", "Turns of user and model between control tokens.", "ref.prompt.chat.render_chat"),
    _row("3", "BOS is added as a token, never as text.", "ref.prompt.chat.encode_chat"),
    _row("3", "Pretrained models end with EOS, tuned ones with the end of a turn.", "ref.prompt.chat.stop_ids"),
    _row(
        "5, figures 3 and 4",
        "Ratios of local to global layers, and windows.",
        "ref.show.kv_memory.plot_kv_memory ref.quant.memory.kv_bytes",
    ),
    _row("5, figures 5 and 6", "Memory of the cache against ratio, window and context.", "ref.quant.memory.kv_bytes"),
    _row("5", "A factor of 8 in RoPE carries 32K to 128K tokens.", "ref.config.TextConfig.rope", "rope_factor_*"),
    _row("5, tables 7 and 8", "Resolutions of the tower; Pan & Scan on and off.", "ref.prompt.images.preprocess"),
)
