"""Exact parameter counts of every size, beside those of the technical report."""

from math import prod

from ref.config import EXTRA_ROWS, HAS_VISION, SIGLIP, SIZES, VisionConfig
from ref.model.params import layer_shapes

# Gemma 3 Technical Report, table 1, in millions: vision, embedding, non-embedding. 270M came after the report.
REPORT = {
    "1b": {"vision": 0, "embedding": 302, "non_embedding": 698},
    "4b": {"vision": 417, "embedding": 675, "non_embedding": 3209},
    "12b": {"vision": 417, "embedding": 1012, "non_embedding": 10759},
    "27b": {"vision": 417, "embedding": 1416, "non_embedding": 25600},
}


def count_vision(v: VisionConfig = SIGLIP) -> int:
    """Count the parameters of the SigLIP tower, biases included.

    Args:
        v: its configuration.

    Source: the released checkpoints' headers.
    Differs: SigLIP's own attention-pooling head is not part of Gemma 3.
    """
    D, F = v.width, v.ffn_width
    patches = (v.image // v.patch) ** 2
    embed = v.patch**2 * v.channels * D + D + patches * D
    block = 4 * (D * D + D) + (D * F + F) + (F * D + D) + 4 * D
    return embed + v.layers * block + 2 * D


def count_params(size: str) -> dict:
    """Count the parameters of one released size.

    Args:
        size: a row of `ref.config.SIZES`.

    Returns:
        name, embedding (262,144 rows), non_embedding, vision, projector, total, the report's row (millions, or
        None) and `difference`: ours minus the report's in each of its columns, in parameters, with its explanation.

    Source: Gemma 3 Technical Report table 1.
    Differs: the report's embedding column of 4B to 27B holds more than 262,144 rows; see `difference`.
    """
    c = SIZES[size]
    embedding = c.vocabulary * c.width
    non_embedding = c.layers * sum(map(prod, layer_shapes(c).values())) + c.width
    vision = count_vision() if size in HAS_VISION else 0
    projector = SIGLIP.width * c.width + SIGLIP.width if size in HAS_VISION else 0
    row = {"name": size, "embedding": embedding, "non_embedding": non_embedding, "vision": vision}
    row |= {"projector": projector, "total": embedding + non_embedding + vision + projector}
    report = REPORT.get(size)
    return row | {"report": report, "difference": _difference(row, report, c.width)}


def _difference(row, report, width):
    if report is None:
        return None
    out = {key: row[key] - report[key] * 1_000_000 for key in ("embedding", "non_embedding", "vision")}
    out["explained"] = "rounding to millions"
    if row["vision"]:
        extra = EXTRA_ROWS * width
        left = out["embedding"] + row["projector"] + extra
        fate = "within its rounding" if abs(left) <= 500_000 else "not explained, unless the report rounded up"
        out["explained"] = (
            f"the report's embedding column also holds the projector ({row['projector']:,}) and "
            f"{EXTRA_ROWS} extra rows ({extra:,}); {-left:,} remain, {fate}"
        )
    return out
