"""What goes into a pass: token ids, checked, and the rows of image features that stand in some tokens' places."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ref.config import PAD, TextConfig
from ref.errors import wanted


class SoftTokens(NamedTuple):
    """Rows of image features, and the tokens that they take the place of, in order: row by row of the batch."""

    rows: np.ndarray  # [images, M, D]
    places: np.ndarray  # [B, T] bool, True at images * M tokens


def check_ids(ids: ArrayLike, c: TextConfig, where: object = "ids") -> np.ndarray:
    """Return the ids as a [B, T] int64 array, or refuse them.

    Args:
        ids: anything NumPy can make an array of.
        c: the configuration, whose vocabulary and context bound them.
        where: what to call them in a refusal.

    Raises:
        BadInput: not two axes of integers, empty, negative, >= V, more than `max_positions` a row.
    """
    array = rows_of(ids, where)
    if array.min() < 0 or array.max() >= c.vocabulary:
        bad = array[(array < 0) | (array >= c.vocabulary)][0]
        raise wanted("token id", where, f"0 <= id < {c.vocabulary}", bad)
    if array.shape[1] > c.max_positions:
        raise wanted("token ids", where, f"at most the context, {c.max_positions}", array.shape[1])
    return array.astype(np.int64)


def rows_of(ids: ArrayLike, where: object = "ids") -> np.ndarray:
    """Return ids as a [B, T] array of integers, of whatever values, or refuse them as `check_ids` does."""
    try:
        array = np.asarray(ids)
    except ValueError:  # rows of unequal length
        raise wanted("token ids", where, "rows of equal length", "unequal ones") from None
    if array.size == 0:
        raise wanted("token ids", where, "at least one", "none")
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise wanted("token ids", where, "integers of shape [B, T]", f"{array.dtype} of shape {list(array.shape)}")
    return array


def insert(h: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Put rows of image features in the place of soft tokens, unscaled, in order.

        h[places][i] = rows[i div M, i mod M]

    Args:
        h: [B, T, D] the embedded tokens.
        rows: [images, M, D].
        places: [B, T] bool, True at images * M tokens, row by row of the batch.

    Returns:
        [B, T, D] h.dtype, a copy.

    Source: transformers 5.23 `Gemma3Model.forward` (masked_scatter); google-deepmind/gemma `merge_embeddings`.
    Differs: mlx-vlm divides the rows by sqrt(D) and multiplies the whole sequence by its bfloat16 rounding later.
    """
    merged = h.copy()
    merged[places] = rows.reshape(-1, h.shape[-1])
    return merged


def ids_and_places(ids: ArrayLike, soft: SoftTokens | None, c: TextConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return ids that can be looked up and where the soft tokens are, having checked both.

    Args:
        ids: [B, T] integers; at a soft token's place anything, such as 262144 or google-deepmind/gemma's -2.
        soft: the image features of the pass, or None.
        c: the configuration.

    Returns:
        (ids [B, T] int64, places [B, T] bool); an id in a soft token's place that is none is PAD.

    Raises:
        BadInput: as `check_ids`; features unlike their places in number or width.

    Source: transformers 5.23 `Gemma3Model.forward`, which also looks up 0 there, where the vocabulary ends at 262,144.
    Differs: what is looked up there is overwritten and shows in the tap `text.embed` only.
    """
    if soft is None:
        ids = check_ids(ids, c)
        return ids, np.zeros(ids.shape, bool)
    ids, places = rows_of(ids), np.asarray(soft.places, bool)
    if places.shape != ids.shape:
        raise wanted("places of soft tokens", "forward", f"shape {list(ids.shape)}, as ids", list(places.shape))
    images, per_image, width = soft.rows.shape
    if width != c.width:
        raise wanted("soft tokens", "forward", f"width {c.width}, as the text model's", width)
    if places.sum() != images * per_image:
        want = f"{images * per_image} ({images} images of {per_image})"
        raise wanted("places of soft tokens", "forward", want, int(places.sum()))
    none = places & ((ids < 0) | (ids >= c.vocabulary))
    return check_ids(np.where(none, PAD, ids), c), places
