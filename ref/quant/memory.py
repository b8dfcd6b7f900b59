"""What a model weighs: bytes of its weights in each format, and of its cache of keys and values."""

from collections.abc import Collection
from typing import Any

from ref.config import SIZES, TextConfig
from ref.errors import wanted
from ref.model.count import count_params
from ref.model.params import layer_shapes
from ref.ops.blocks import FORMATS
from ref.quant.encode import ENCODERS
from ref.weights.coded import CODED

PLAIN = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes a value
WEIGHTS = {kind.lower(): kind for kind in ENCODERS}  # name on the command line -> format
BLOCKS = {"int8": (1, 1), "q8_0": (FORMATS["Q8_0"].length, FORMATS["Q8_0"].size)}
KEYS = {kind: (1, size) for kind, size in PLAIN.items()} | BLOCKS  # values and bytes of a block of the cache
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


def _known(kind: str, formats: Collection[str], what: str) -> str:
    """Return a format's name as the tables have it; the refusal quotes it as it was typed."""
    if kind.lower() not in formats:
        raise wanted(what, "memory", f"one of {', '.join(formats)}", kind)
    return kind.lower()


def matrix_bytes(rows: int, columns: int, kind: str, where: object = "memory") -> int:
    """Count the bytes of one matrix.

        rows * columns / values a block * bytes a block, and 4 a row where a channel has a scale

    Args:
        rows: outputs.
        columns: inputs.
        kind: a key of PLAIN or of WEIGHTS.
        where: whose matrix, for refusals.

    Raises:
        BadInput: no such format, or rows that blocks cannot be cut from.

    Source: `ref.ops.blocks.FORMATS`.
    """
    kind = _known(kind, [*PLAIN, *WEIGHTS], "weights format")
    if kind in PLAIN:
        return rows * columns * PLAIN[kind]
    form = FORMATS[WEIGHTS[kind]]
    if columns % form.length:
        raise wanted("width", where, f"a multiple of {form.length}, the block of {kind}", columns)
    return rows * (columns // form.length * form.size + (SCALE if WEIGHTS[kind] in CODED else 0))


def _matrices(config: TextConfig) -> list[tuple[int, int, int]]:
    """List (how often, rows, columns) of every matrix of the text model."""
    inside = [(config.layers, shape[0], shape[1]) for shape in layer_shapes(config).values() if len(shape) == 2]
    return [(1, config.vocabulary, config.width), *inside]


def fits(config: TextConfig, kind: str) -> bool:
    """Tell whether a format's blocks can be cut from every matrix of a text model.

    Args:
        config: of the model.
        kind: see `matrix_bytes`.

    Source: `matrix_bytes`, which refuses the others.
    """
    length = FORMATS[WEIGHTS[kind]].length if kind in WEIGHTS else 1
    return not any(columns % length for _, _, columns in _matrices(config))


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
    where = f"memory {config.name}"
    matrices = sum(times * matrix_bytes(rows, columns, kind, where) for times, rows, columns in _matrices(config))
    norms = config.width + config.layers * sum(shape[0] for shape in layer_shapes(config).values() if len(shape) == 1)
    return matrices + norms * PLAIN.get(kind.lower(), SCALE)


def kv_bytes(config: TextConfig, context: int, kind: str = "bfloat16", all_global: bool = False) -> int:
    """Count the bytes of the cache of one sequence.

        sum over layers of 2 min(W, context) R in local ones, 2 context R in global ones
        R = ceil(K H / values a block) * bytes a block:    what a token's keys take in a layer

    Args:
        config: of the model; `global_every` and `window` may be anything.
        context: tokens; any integer, and counted in integers.
        kind: a key of KEYS. The K H values of a token lie side by side and are cut into blocks; the last takes all its
            bytes, filled or not. Of the released sizes every block is full.
        all_global: keep every key in every layer, as a cache without rings does.

    Raises:
        BadInput: no such format, or a context below 1.

    Source: `ref.model.cache`, whose rings hold W keys.
    Differs: implementations without rings keep all keys and mask. llama.cpp refuses rows with a block that is not full.
    """
    length, size = KEYS[_known(kind, KEYS, "KV format")]
    if context < 1:
        raise wanted("context", "memory", "at least 1 token", context)
    windows = (None if all_global else config.window_of(i) for i in range(config.layers))
    keys = sum(min(window or context, context) for window in windows)
    return 2 * keys * (-(-config.kv_heads * config.head_dim // length) * size)


def memory(
    size: str, context: int = REPORT_CONTEXT, weights: str = "bfloat16", kv: str = "bfloat16", all_global: bool = False
) -> dict[str, Any]:
    """Count what one released size takes, beside the report's cell where it has one.

    Args:
        size: a row of `ref.config.SIZES`.
        context: tokens of the one sequence in the cache.
        weights: format of the text model's matrices; tower and projector are as these where they are plain, else
            bfloat16.
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
    weights, kv = weights.lower(), kv.lower()
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
