"""What a query may see: one contiguous range of keys, so two integers instead of a mask row."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ref.ops.jit import kernel

Composition = Literal["current", "before_46850", "two_sided"]
COMPOSITIONS: tuple[Composition, ...] = ("current", "before_46850", "two_sided")
_BEFORE_46850, _TWO_SIDED = 1, 2


@kernel(error_model="python")
def visible_keys(
    index: int, first: int, window: int, block_start: int = -1, block_stop: int = -1, composition: int = 0
) -> tuple[int, int]:
    """Return the half-open range (start, stop) of key indices that one query sees.

        causal   first <= j <= index
        inside   window == 0 or index - j < window
        block    block_start <= index, j < block_stop
        key j is visible iff    inside and (causal or block)                            0, current
                                (inside and causal) or block                            1, before_46850
                                inside and (causal or block) and j - index < window     2, two_sided

    A query before `first` is padding and sees nothing: (index, index).

    Drawn for window 3, first 1 and an image block at 3 .. 6 (row: query index; x: visible), current | before_46850:

        0  . . . . . . . .   |  . . . . . . . .        4  . . x x x x x .   |  . . x x x x x .
        1  . x . . . . . .   |  . x . . . . . .        5  . . . x x x x .   |  . . . x x x x .
        2  . x x . . . . .   |  . x x . . . . .        6  . . . . x x x .   |  . . . x x x x .
        3  . x x x x x x .   |  . x x x x x x .        7  . . . . . x x x   |  . . . . . x x x

    Args:
        index: the query's own key index: tokens before it in the row, pads and earlier prompts included.
        first: index of the first key of the query's own prompt: the number of left pads, or where its packed prompt
            starts.
        window: W, the number of keys a local layer sees, the query's own included; 0 for a global layer.
        block_start: index of the first key of the image block that the query is in.
        block_stop: one past its last; a text token is in no block: block_stop <= index.
        composition: index into COMPOSITIONS. All three agree in global layers, and where blocks are no longer than W.

    Source: Gemma 3 report section 2 (5:1 local/global); google-deepmind/gemma `_create_sliding_mask`; transformers
        5.23 `create_masks_for_vision_model`.
    Differs: transformers from 4.52 to its PR 46850 composed as before_46850; google-deepmind/gemma and Keras as
        two_sided; earlier transformers let all images see each other, which is no range. mlx-lm before its PR 390 and
        transformers 4.50's flash-attention path saw W + 1 keys; transformers gives a fully padded query a uniform
        softmax, here its range is empty and its output zero.
    """
    if index < first:
        return index, index
    start, stop = first, index + 1
    if window > 0 and index - window + 1 > start:
        start = index - window + 1
    if block_start <= index < block_stop:
        stop = block_stop
        if composition == _TWO_SIDED and 0 < window < block_stop - index:
            stop = index + window
        if composition == _BEFORE_46850 and block_start < start:
            start = block_start
    return start, stop


@kernel(error_model="python")
def _fill(first, start, window, blocks, composition, out):
    for b in range(out.shape[0]):
        for t in range(out.shape[1]):
            begin, end = blocks[b, t, 0], blocks[b, t, 1]
            out[b, t, 0], out[b, t, 1] = visible_keys(start + t, first[b, t], window, begin, end, composition)


def visible_ranges(
    first: np.ndarray,
    start: int,
    window: int | None,
    blocks: np.ndarray | None = None,
    composition: Composition = "current",
) -> np.ndarray:
    """Apply `visible_keys` to a pass of T queries whose key indices are start .. start + T - 1.

    Args:
        first: [B, T] int64, index of the first key of each query's prompt.
        start: number of keys cached before this pass.
        window: W, or None for a global layer.
        blocks: [B, T, 2] from `image_blocks`; None where there is no image.
        composition: how window and image block go together, see `visible_keys`.

    Returns:
        [B, T, 2] int64: start and stop, half-open, in key indices.

    Source: `visible_keys`.
    Differs: packed prompts are compared by index; comparing restarted positions instead, as some do, leaks keys of
        the neighbour prompt.
    """
    out = np.empty((*first.shape, 2), np.int64)
    blocks = np.full(out.shape, -1) if blocks is None else blocks
    which = COMPOSITIONS.index(composition)
    _fill(np.ascontiguousarray(first, np.int64), start, 0 if window is None else window, blocks, which, out)
    return out


@kernel(error_model="python")
def _fill_blocks(soft, first, start, out):
    T = soft.shape[1]
    for b in range(soft.shape[0]):
        for t in range(T):  # forward: where the block begins
            begins = t == 0 or not soft[b, t - 1] or first[b, t] != first[b, t - 1]
            out[b, t, 0] = -1 if not soft[b, t] else start + t if begins else out[b, t - 1, 0]
        for t in range(T - 1, -1, -1):  # backward: where it ends
            ends = t == T - 1 or out[b, t + 1, 0] != out[b, t, 0]
            out[b, t, 1] = -1 if not soft[b, t] else start + t + 1 if ends else out[b, t + 1, 1]


def image_blocks(soft: np.ndarray, first: np.ndarray, start: int) -> np.ndarray:
    """Find each token's image block: the longest run of soft tokens that it is in, cut where a packed prompt ends.

        block(t) = [a, e) iff soft[a .. e-1], all of one prompt, neither soft[a-1] nor soft[e] of that prompt

    Args:
        soft: [B, T] bool, True where a token stands for a row of image features.
        first: [B, T] int64, as for `visible_ranges`.
        start: number of keys cached before this pass.

    Returns:
        [B, T, 2] int64 key indices, half-open; (-1, -1) for text.

    Source: transformers 5.23 `get_block_sequence_ids_for_mask`; google-deepmind/gemma `_make_block_mask_indices`.
    Differs: two images that touch are one block everywhere; in both official layouts newlines stand between.
    """
    out = np.empty((*soft.shape, 2), np.int64)
    _fill_blocks(np.ascontiguousarray(soft, np.bool_), np.ascontiguousarray(first, np.int64), start, out)
    return out


def as_matrix(ranges: np.ndarray, keys: int) -> np.ndarray:
    """Draw ranges as the boolean matrix that other implementations carry.

    Args:
        ranges: [B, T, 2] from `visible_ranges`.
        keys: S, how many keys there are.

    Returns:
        [B, T, S] bool, True where the query sees the key.

    Differs: others add 0 and a large negative number instead of a boolean.
    """
    key = np.arange(keys)
    return (key >= ranges[..., :1]) & (key < ranges[..., 1:])


def prompt_starts(
    lengths: Sequence[Sequence[int]], left_pads: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each token's `first`: where its own prompt starts in a row of left pads and packed prompts.

    Args:
        lengths: for each batch row, the lengths of the prompts packed into it, in order.
        left_pads: [B], pads before the first prompt of each row.

    Returns:
        (first, positions): two [B, T] int64; positions count from 0 in each prompt, and are 0 on pads.

    Raises:
        ValueError: the rows do not all have the same total length.

    Source: transformers' left padding (positions = cumsum(mask) - 1) and google-deepmind/gemma's.
    Differs: transformers before 5 filled pad positions with 1; pads are never seen, so it does not show.
    """
    rows = []
    for row_lengths, pads in zip(lengths, left_pads, strict=True):
        starts = np.cumsum([pads, *row_lengths[:-1]])
        rows.append(np.concatenate([np.full(pads, pads), np.repeat(starts, row_lengths)]))
    first = np.stack(rows).astype(np.int64)
    return first, np.maximum(np.arange(first.shape[1]) - first, 0)
