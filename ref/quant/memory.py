"""What a model weighs: bytes of its weights in each format, and of its cache of keys and values."""

from typing import Any

from ref.config import SIZES, TextConfig
from ref.errors import wanted
from ref.model.count import count_params
from ref.model.params import layer_shapes
from ref.ops.blocks import FORMATS
from ref.quant.encode import ENCODERS

PLAIN = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes a value
WEIGHTS = {kind.lower(): kind for kind in ENCODERS}  # name on the command line -> format
KEYS = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "q8_0": 34 / 32}  # bytes a value of the cache
SCALE = 4  # bytes of a channel's scale, and of each value of a norm beside quantised matrices
REPORT_CONTEXT = 32_768

# Gemma 3 Technical Report, table 3, GB: weights alone, and with the cache of 32,768 tokens.
REPORT = {
    "1b": {"bfloat16": (2.0, 2.9), "int4": (0.5, 1.4), "q4_0": (0.7, 1.6), "sfp8": (1.0, 1.9)},
    "4b": {"bfloat16": (8.0, 12.7), "int4": (2.6, 7.3), "q4_0": (2.9, 7.6), "sfp8": (4.4, 9.1)},
    "12b": {"bfloat16": (24.0, 38.9), "int4": (6.6, 21.5), "q4_0": (7.1, 22.0), "sfp8": (12.4, 27.3)},
    "27b": {"bfloat16": (54.0, 72.7), "int4": (14.1, 32.8), "q4_0": (15.3, 34.0), "sfp8": (27.4, 46.1)},
}
NOT_REPRODUCIBLE = (
    "the report's KV figures follow from no reading of its caption: those of 1B and 4B are a full-length bfloat16 one, "
    "those of 12B and 27B more than even that; none is an 8-bit cache, none has rings"
)


def matrix_bytes(rows: int, columns: int, kind: str) -> int:
    """Count the bytes of one matrix.

        rows * columns / values a block * bytes a block, and 4 a row where a channel has a scale

    Args:
        rows: outputs.
        columns: inputs.
        kind: a key of PLAIN or of WEIGHTS.

    Raises:
        BadInput: no such format, or rows that blocks cannot be cut from.

    Source: `ref.ops.blocks.FORMATS`.
    Differs: no known.
    """
    if kind in PLAIN:
        return rows * columns * PLAIN[kind]
    if kind not in WEIGHTS:
        raise wanted("weights format", "memory", f"one of {', '.join([*PLAIN, *WEIGHTS])}", kind)
    form = FORMATS[WEIGHTS[kind]]
    if columns % form.length:
        raise wanted("width", "memory", f"a multiple of {form.length}, the block of {kind}", columns)
    return rows * (columns // form.length * form.size + (SCALE if form.type_id < 0 else 0))


def weights_bytes(config: TextConfig, kind: str) -> int:
    """Count the bytes of a text model whose matrices, the embedding among them, are in one format.

    Args:
        config: of the model.
        kind: see `matrix_bytes`; norms are as the matrices where these are plain, else float32.

    Raises:
        BadInput: see `matrix_bytes`.

    Source: the shapes of the parameters; the head is the embedding.
    Differs: llama.cpp's official files keep the embedding as float16.
    """
    each = PLAIN.get(kind, SCALE)
    total = matrix_bytes(config.vocabulary, config.width, kind) + config.width * each
    for shape in layer_shapes(config).values():
        here = matrix_bytes(shape[0], shape[1], kind) if len(shape) == 2 else shape[0] * each
        total += config.layers * here
    return total


def kv_bytes(config: TextConfig, context: int, kind: str = "bfloat16", all_global: bool = False) -> int:
    """Count the bytes of the cache of one sequence.

        sum over layers of 2 K H min(W, context) in local ones, 2 K H context in global ones, times bytes a value

    Args:
        config: of the model; `global_every` and `window` may be anything.
        context: tokens.
        kind: a key of KEYS.
        all_global: keep every key in every layer, as a cache without rings does.

    Raises:
        BadInput: no such format, or a context below 1.

    Source: `ref.model.cache`, whose rings hold W keys.
    Differs: implementations without rings keep all keys and mask.
    """
    if kind not in KEYS:
        raise wanted("KV format", "memory", f"one of {', '.join(KEYS)}", kind)
    if context < 1:
        raise wanted("context", "memory", "at least 1 token", context)
    windows = (None if all_global else config.window_of(i) for i in range(config.layers))
    keys = sum(min(window or context, context) for window in windows)
    return round(2 * config.kv_heads * config.head_dim * keys * KEYS[kind])


def memory(
    size: str, context: int = REPORT_CONTEXT, weights: str = "bfloat16", kv: str = "bfloat16", all_global: bool = False
) -> dict[str, Any]:
    """Count what one released size takes, beside the report's cell where it has one.

    Args:
        size: a row of `ref.config.SIZES`.
        context: tokens of the one sequence in the cache.
        weights: format of the text model's matrices; tower and projector stay bfloat16.
        kv: format of the cache.
        all_global: see `kv_bytes`.

    Returns:
        name, weights_format, kv_format, context, all_global; text_bytes, vision_bytes (tower and projector),
        weights_bytes (both), kv_bytes, total_bytes; report {weights_gb, with_kv_gb} or None; difference, ours less the
        report's in GB: text, weights, and kv, which is the report's second figure less its first.

    Raises:
        BadInput: see `matrix_bytes` and `kv_bytes`.

    Source: Gemma 3 Technical Report, table 3; GB are 10^9 bytes.
    Differs: the report's KV figures; see NOT_REPRODUCIBLE.
    """
    config, counts = SIZES[size], count_params(size)
    text, cache = weights_bytes(config, weights), kv_bytes(config, context, kv, all_global)
    vision = (counts["vision"] + counts["projector"]) * PLAIN.get(weights, PLAIN["bfloat16"])
    row = {"name": size, "weights_format": weights, "kv_format": kv, "context": context, "all_global": all_global}
    row |= {"text_bytes": text, "vision_bytes": vision, "weights_bytes": text + vision, "kv_bytes": cache}
    row |= {"total_bytes": text + vision + cache, "report": None, "difference": None}
    cell = REPORT.get(size, {}).get(weights) if context == REPORT_CONTEXT else None
    if cell:
        alone, both = cell
        row["report"] = {"weights_gb": alone, "with_kv_gb": both}
        parts = {"text": text / 1e9 - alone, "weights": (text + vision) / 1e9 - alone, "kv": cache / 1e9 - both + alone}
        row["difference"] = {name: round(value, 3) for name, value in parts.items()}
    return row
