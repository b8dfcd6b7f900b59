"""What a capture is given: rows of one length, padded on the left or not, with images or not."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ref.config import TextConfig, VisionConfig
from ref.errors import wanted
from ref.model.multimodal import soft_token_id


class Prompt(NamedTuple):
    """Rows that are run together."""

    ids: np.ndarray  # [B, T] int64
    pads: list[int]  # left pads of each row
    blocks: list[list[list[int]]]  # of each row, [start, stop] of each image
    images: list[slice]  # of each row, which images are its
    pixels: np.ndarray | None  # [images, C, Y, X] floats


def check_prompt(
    ids: Any,
    config: TextConfig,
    *,
    steps: int = 0,
    left_pads: Sequence[int] | None = None,
    pixels: Any = None,
    vision: VisionConfig | None = None,
) -> Prompt:
    """Turn the arguments of a capture into what is run.

    Args:
        ids: [T] or [B, T] integers; lists, arrays or tensors of any library that has `tolist`.
        config: of the weights.
        steps: cached steps after it.
        left_pads: of each row; None for none.
        pixels: [images, C, Y, X] floats, in the order of their soft tokens.
        vision: of the weights' tower; None where they do not see.

    Raises:
        BadInput: other shapes, ids that the vocabulary has not, more tokens than the context, pixels without a tower,
            images and their soft tokens unlike each other.
    """
    rows = _rows(ids)
    soft = (rows == soft_token_id(config)) if pixels is not None else np.zeros(rows.shape, bool)
    check_ids(rows[~soft], config.vocabulary)
    if steps < 0 or rows.shape[1] + steps > config.max_positions:
        raise wanted("steps", "capture", f"0 or more, {config.max_positions} tokens at most", steps)
    if pixels is not None:
        pixels = _pixels(pixels, vision)
    images = images_of(soft, 0 if pixels is None else len(pixels), vision)
    pads = check_pads(left_pads, rows.shape, "left_pads") or [0] * len(rows)
    return Prompt(rows, pads, [blocks_of(row) for row in soft], images, pixels)


def _rows(ids: Any) -> np.ndarray:
    rows = ids.tolist() if hasattr(ids, "tolist") else ids
    try:
        array = np.asarray(rows)
    except ValueError:  # rows of several lengths
        array = np.empty(0)
    if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in "iu":
        raise wanted("token ids", "capture", "integers [T] or [B, T]", rows)
    return np.atleast_2d(array).astype(np.int64)


def check_ids(ids: Any, vocabulary: int) -> None:
    """Refuse ids that a vocabulary has not.

    Args:
        ids: integers [...], of NumPy or torch, without those of soft tokens.
        vocabulary: V.
    """
    bad = ids[(ids < 0) | (ids >= vocabulary)]
    if len(bad):
        raise wanted("token id", "capture", f"0 to {vocabulary - 1}", int(bad[0]))


def _pixels(pixels: Any, vision: VisionConfig | None) -> np.ndarray:
    if vision is None:
        raise wanted("pixel_values", "capture", "weights with a vision tower", "none")
    try:
        array = np.asarray(pixels)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty(0)
    want = [vision.channels, vision.image, vision.image]
    if array.ndim != 4 or not len(array) or list(array.shape[1:]) != want or array.dtype.kind in "iubOUSc":
        want = f"floats [images, {', '.join(map(str, want))}]"
        raise wanted("pixel_values", "capture", want, f"{array.dtype} {list(array.shape)}")
    return array


def check_pads(given: Sequence[int] | None, shape: Sequence[int], what: str) -> list[int] | None:
    """Return pads of each row as numbers.

    Args:
        given: one number a row; None for no pads.
        shape: [B, T] of the ids.
        what: `left_pads` or `right_pads`, for refusals.

    Raises:
        BadInput: not one a row, or a row of nothing else.
    """
    if given is None:
        return None
    pads = [int(count) for count in given]
    if len(pads) != shape[0] or not all(0 <= count < shape[1] for count in pads):
        raise wanted(what, "capture", f"{shape[0]} numbers from 0 to {shape[1] - 1}", pads)
    return pads


def images_of(soft: Any, count: int, vision: VisionConfig | None) -> list[slice]:
    """Return which images are each row's; they lie in the order of their soft tokens.

    Args:
        soft: [B, T] booleans, of NumPy or torch, True at soft tokens.
        count: of the images.
        vision: the tower's; None without one.

    Raises:
        BadInput: soft tokens that are not those of whole images, row by row.
    """
    per_image = vision.soft_tokens if vision else 1
    found = soft.sum(1).tolist()
    if sum(found) != count * per_image or any(n % per_image for n in found):
        want = f"{count * per_image} for {count} images, {per_image} each, whole images in a row"
        raise wanted("soft tokens", "capture", want, found)
    ends = np.cumsum([0, *found]) // per_image
    return [slice(int(start), int(stop)) for start, stop in pairwise(ends)]


def blocks_of(soft: np.ndarray) -> list[list[int]]:
    """List the runs of soft tokens of a row, [start, stop] in key indices."""
    edges = np.flatnonzero(np.diff(np.pad(soft.astype(np.int8), 1)))
    return edges.reshape(-1, 2).tolist()
