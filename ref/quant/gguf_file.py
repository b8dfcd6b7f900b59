"""Write a text model as the GGUF file that llama.cpp runs, with the `gguf` package."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ref.config import BOS, EOS, EXTRA_ROWS, PAD, SOFT_TOKEN, UNK, TextConfig
from ref.errors import pip_install, wanted
from ref.ops.blocks import Blocks
from ref.ops.linear import ByRows, take_rows
from ref.prompt.rebuild import CONTROL, UNUSED, gguf_vocabulary
from ref.quant.plan import Planned, check_finite, kept, make
from ref.weights.gguf_writing import announce, import_gguf
from ref.weights.names import gguf_name, is_norm
from ref.weights.resolve import Loaded

DEPTH_OF_27B = 62  # for which llama.cpp takes another query scale


def write_gguf(loaded: Loaded, planned: Sequence[Planned], kind: str, folder: Path) -> str:
    """Write one GGUF file.

    Args:
        loaded: the weights; their tokenizer goes into the file.
        planned: what each tensor of theirs becomes.
        kind: format that the file is called after.
        folder: where.

    Returns:
        The file's name.

    Raises:
        BadInput: the `gguf` package is not installed; weights without a tokenizer, or with one that does not fit the
            rows of the embedding; a configuration that GGUF does not hold.

    Source: llama.cpp `convert_hf_to_gguf.py`, `Gemma3Model`; `gguf` 0.19.
    Differs: the vision tower, which llama.cpp keeps in a file of its own (mmproj), is not written. Nor is the official
        chat template, which is not of this repository: without one llama.cpp takes ChatML, so that instruction-tuned
        files want `--chat-template gemma`.
    """
    gguf, c = import_gguf("quantize", pip_install("quant")), loaded.params.config
    _check(c)
    vocabulary = _vocabulary(loaded)
    name = f"gemma-3-{c.name}{'-it' if loaded.instruction_tuned else ''}-{kind.lower()}.gguf"
    writer = gguf.GGUFWriter(folder / name, "gemma3")
    _describe(writer, gguf, loaded, kind)
    _add_tokenizer(writer, vocabulary)
    for field, layer, shape, becomes in planned:
        held = "F32" if is_norm(field) else becomes or _type(kept(getattr(loaded.params, field), kind))
        announce(gguf, writer, gguf_name(field, layer), shape, held, "quantize")
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for field, tensor, made in make(loaded.params, kind, planned, gguf_name):
            writer.write_tensor_data(_as_gguf(field, tensor, made))
    finally:
        writer.close()
    return name


def _type(weight) -> str:
    """Return the name that ggml has for a weight that is written as it is."""
    if isinstance(weight, Blocks):
        return weight.format
    dtype = np.asarray(take_rows(weight, slice(0, 1))).dtype
    return {"uint16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}[str(dtype)]


def _as_gguf(field: str, name: str, weight) -> np.ndarray:
    """Return the bytes of a tensor; norms as 1 + w."""
    if is_norm(field):
        with np.errstate(over="ignore"):
            gain = (np.asarray(weight, np.float64) + 1).astype(np.float32)
        check_finite(gain, name)  # again: float64 may be beyond float32
        return gain
    weight = weight.take_rows(slice(None)) if isinstance(weight, ByRows) else weight
    return np.ascontiguousarray(weight.data if isinstance(weight, Blocks) else weight)


def _describe(writer, gguf, loaded: Loaded, kind: str) -> None:
    c, tuned = loaded.params.config, loaded.instruction_tuned
    writer.add_name(f"Gemma 3 {c.name}{' it' if tuned else ''}")
    writer.add_license("gemma")
    writer.add_context_length(c.max_positions)
    writer.add_embedding_length(c.width)
    writer.add_block_count(c.layers)
    writer.add_feed_forward_length(c.ffn_width)
    writer.add_head_count(c.query_heads)
    writer.add_head_count_kv(c.kv_heads)
    writer.add_layer_norm_rms_eps(c.rms_eps)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_rope_freq_base(c.rope_base_global)
    writer.add_sliding_window(c.window)
    if c.rope_factor != 1:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(c.rope_factor)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])


def _check(c: TextConfig) -> None:
    """Refuse what GGUF leaves to the runtime and this model has otherwise."""
    scale = (c.width // c.query_heads if c.layers == DEPTH_OF_27B else c.head_dim) ** -0.5
    wants = {"query_scale": scale, "global_every": 6, "rope_base_local": 10_000.0}
    for field, want in wants.items():
        if not np.isclose(getattr(c, field), want, rtol=1e-9):
            raise wanted(field, "gguf", f"{want}, which llama.cpp takes", getattr(c, field))


def _vocabulary(loaded: Loaded) -> list[tuple[bytes, float, int]]:
    """Return piece, score and type for each row of the embedding; multimodal checkpoints have rows without a piece."""
    model, rows = loaded.tokenizer().model, loaded.params.config.vocabulary
    pieces, scores, types = gguf_vocabulary(model)
    if not 0 <= rows - len(pieces) <= EXTRA_ROWS:
        want = f"{max(1, rows - EXTRA_ROWS)} to {rows} pieces, for {rows} rows of the embedding"
        raise wanted("tokenizer", loaded.name, want, len(pieces))
    return [*zip(pieces, scores.tolist(), types.tolist(), strict=True), *map(_extra, range(len(pieces), rows))]


def _extra(token: int) -> tuple[bytes, float, int]:
    """Return what llama.cpp's converter gives a row without a piece."""
    if token == SOFT_TOKEN:
        return b"<image_soft_token>", -1_000.0, CONTROL
    return b"[PAD%d]" % token, -10_000.0, UNUSED


def _add_tokenizer(writer, vocabulary: list[tuple[bytes, float, int]]) -> None:
    pieces, scores, types = map(list, zip(*vocabulary, strict=True))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNK)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
