"""What each tensor of a checkpoint becomes in a format, and how it is made: one at a time, some rows at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ref.errors import wanted
from ref.model.params import TextParams
from ref.ops.blocks import Blocks
from ref.ops.linear import ByRows, Weight, take_rows, widen_jit
from ref.quant.encode import check_width, encode
from ref.weights.coded import CODED
from ref.weights.names import EMBEDDING, HEAD, hugging_face_name, text_shapes, text_tensors

ROWS = 4_096  # of a matrix that are widened at a time


class Planned(NamedTuple):
    """A tensor of the text model, and the format that it will have."""

    field: str
    layer: int | None  # None outside layers
    shape: tuple[int, ...]
    kind: str | None  # a key of ENCODERS; None where it is not encoded


def plan(params: TextParams, kind: str, keep_embedding: bool = False) -> list[Planned]:
    """Say what each tensor of the text model becomes, before any is made or read.

    Args:
        params: of the text model.
        kind: a key of `ref.quant.encode.ENCODERS`, for every matrix.
        keep_embedding: keep the values of the embedding, and of the head where it has its own; see `kept`.

    Raises:
        BadInput: a width that is no multiple of the format's block.
    """
    planned = []
    for field, layer, shape in text_shapes(params.config, params.head is not None):
        coded = len(shape) == 2 and not (keep_embedding and field in (EMBEDDING, HEAD))
        if coded:
            check_width(shape[1], kind, hugging_face_name(field, layer, ""))
        planned.append(Planned(field, layer, shape, kind if coded else None))
    return planned


def kept(weight: Weight, kind: str) -> Weight:
    """Return a weight that is not encoded, as a file of the format can hold it.

        codes of a format that the file can hold -> the same codes;  other codes -> their values as float32

    Args:
        weight: a Weight.
        kind: format of the file's matrices. A folder holds codes of this format alone, a GGUF file those of any format
            of ggml.

    Returns:
        a Weight of the same values.

    Source: `ref.weights.coded`, whose folders name one format; ggml's types.
    """
    if not isinstance(weight, Blocks):
        return weight
    holds = weight.format == kind if kind in CODED else weight.format not in CODED
    return weight if holds else ByRows(weight.shape, lambda rows: widen_jit(weight.take_rows(rows)))


def make(
    params: TextParams, kind: str, planned: Sequence[Planned], name_of: Callable[[str, int | None], str]
) -> Iterator[tuple[str, str, np.ndarray | Blocks | ByRows]]:
    """Yield (field, name, Weight as it is written) of every tensor, one in memory at a time, with a progress bar.

    Args:
        params: of the text model.
        kind: of the file.
        planned: by `plan`.
        name_of: from (field, layer) to the name in the file, which refusals name too.

    Raises:
        BadInput: see `ref.quant.encode.encode` and `check_finite`.
    """
    both = zip(planned, text_tensors(params), strict=True)
    for row, (field, layer, weight) in tqdm(both, "weights", len(planned), disable=None, delay=1, leave=False):
        name = name_of(field, layer)
        if not row.kind:
            check_finite(weight, name)
        yield field, name, encode_rows(weight, row.kind, name) if row.kind else kept(weight, kind)


def check_finite(weight: Weight, where: object) -> None:
    """Refuse a NaN or an infinity in a tensor that is not encoded; of those that are, `encode` does.

    Args:
        weight: a Weight, or an array of any shape.
        where: its name, for the refusal.

    Raises:
        BadInput: with the place of the first.
    """
    for start in range(0, weight.shape[0], ROWS):
        part = widen_jit(take_rows(weight, slice(start, start + ROWS)))
        if not np.isfinite(part).all():
            place = np.argwhere(~np.isfinite(part))[0].tolist()
            got = f"{part[tuple(place)]} at {[start + place[0], *place[1:]]}"
            raise wanted("value", where, "finite numbers", got)


def encode_rows(weight: Weight, kind: str, where: object) -> Blocks:
    """Quantise a matrix of any kind, some rows at a time.

    Args:
        weight: a Weight [O, I].
        kind: see `ref.quant.encode.encode`.
        where: its name, for refusals.

    Raises:
        BadInput: see `ref.quant.encode.encode`.
    """
    parts = []
    for start in range(0, weight.shape[0], ROWS):
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is refused
            rows = np.ascontiguousarray(widen_jit(take_rows(weight, slice(start, start + ROWS))), np.float32)
        parts.append(encode(rows, kind, where, start))
    scales = [part.scale for part in parts if part.scale is not None]
    data = np.concatenate([part.data for part in parts])
    return Blocks(data, kind, np.concatenate(scales) if scales else None)
