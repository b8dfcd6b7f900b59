"""What a query may see: one contiguous range of keys, so two integers instead of a mask row."""

import numpy as np
from numba import njit


@njit(cache=True)
def visible_keys(index, first, window):
    """Return the half-open range (start, stop) of key indices that one query sees.

        key j is visible iff first <= j <= index and (window == 0 or index - j < window)

    A query before `first` is padding and sees nothing: (index, index).

    Drawn for window 3 and first 1 (row: query index; x: visible):

        0  . . . . . .        3  . x x x . .
        1  . x . . . .        4  . . x x x .
        2  . x x . . .        5  . . . x x x

    Args:
        index: the query's own key index: tokens before it in the row, pads and earlier prompts included.
        first: index of the first key of the query's own prompt: the number of left pads, or where its packed prompt
            starts.
        window: W, the number of keys a local layer sees, the query's own included; 0 for a global layer.

    Source: Gemma 3 report section 2.1 (5:1 local/global); google-deepmind/gemma `_create_sliding_mask`.
    Differs: mlx-lm before its PR 390 and transformers 4.50's flash-attention path saw W + 1 keys; transformers gives a
        fully padded query a uniform softmax, here its range is empty and its output zero.
    """
    if index < first:
        return index, index
    start = first
    if window > 0 and index - window + 1 > start:
        start = index - window + 1
    return start, index + 1


@njit(cache=True)
def _fill(first, start, window, out):
    for b in range(out.shape[0]):
        for t in range(out.shape[1]):
            out[b, t, 0], out[b, t, 1] = visible_keys(start + t, first[b, t], window)


def visible_ranges(first, start, window):
    """Apply `visible_keys` to a pass of T queries whose key indices are start .. start + T - 1.

    Args:
        first: [B, T] int64, index of the first key of each query's prompt.
        start: number of keys cached before this pass.
        window: W, or None for a global layer.

    Returns:
        [B, T, 2] int64: start and stop, half-open, in key indices.

    Source: `visible_keys`.
    Differs: packed prompts are compared by index; comparing restarted positions instead, as some do, leaks keys of
        the neighbour prompt.
    """
    out = np.empty((*first.shape, 2), np.int64)
    _fill(np.ascontiguousarray(first, np.int64), start, 0 if window is None else window, out)
    return out


def as_matrix(ranges, keys):
    """Draw ranges as the boolean matrix that other implementations carry.

    Args:
        ranges: [B, T, 2] from `visible_ranges`.
        keys: S, how many keys there are.

    Returns:
        [B, T, S] bool, True where the query sees the key.

    Source: definition.
    Differs: others add 0 and a large negative number instead of a boolean.
    """
    key = np.arange(keys)
    return (key >= ranges[..., :1]) & (key < ranges[..., 1:])


def prompt_starts(lengths, left_pads):
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
