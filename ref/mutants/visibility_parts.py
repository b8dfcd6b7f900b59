"""Visibility as ports write it, with whole boolean matrices, in parts that people get wrong one at a time.

The rule itself is `ref.ops.visibility`. Rows of padding mean nothing: nobody asks what a pad sees.
"""

from typing import NamedTuple

import numpy as np

from ref.ops.visibility import Composition, as_matrix, image_blocks, visible_ranges


class Layout(NamedTuple):
    """One batch row of one pass, as far as visibility goes."""

    soft: np.ndarray  # [T] bool: the token stands for a row of image features
    first: np.ndarray  # [T] int64: key index where the token's prompt starts (after left pads, or after packed prompts)
    start: int  # keys cached before this pass; the tokens' own key indices are start .. start + T - 1
    window: int | None  # W of a local layer; None: a global layer
    composition: Composition = "current"
    local_window: int = 512  # W of the model's local layers, for mistakes that a global layer can make
    begin: int | None = None  # key index where the row's first prompt starts; None: where that of the first token does


def visible(layout: Layout) -> np.ndarray:
    """Return what each token sees, by the rule itself.

    Args:
        layout: the tokens of a pass.

    Returns:
        [T, S] bool, S = start + T.

    Source: `ref.ops.visibility`.
    """
    first, start = layout.first[None], layout.start
    blocks = image_blocks(layout.soft[None], first, start)
    ranges = visible_ranges(first, start, layout.window, blocks, layout.composition)
    return as_matrix(ranges, start + len(layout.soft))[0]


def real_rows(layout: Layout) -> np.ndarray:
    """Tell which tokens are no padding.

    Args:
        layout: the tokens of a pass.

    Returns:
        [T] bool.
    """
    return layout.start + np.arange(len(layout.first)) >= layout.first


class Parts(NamedTuple):
    """What a mask is composed of; [T, S] bool unless it says otherwise."""

    query: np.ndarray  # [T, 1] key index of each token
    key: np.ndarray  # [1, S]
    W: int  # of this layer; as long as the row in a global one
    own: np.ndarray  # the key is of the query's own prompt, and neither is padding
    causal: np.ndarray
    ago: np.ndarray  # [T, S] integers: how far the key lies behind the query
    block: np.ndarray  # both in one image
    both_soft: np.ndarray  # both in some image of this pass


def parts_of(layout: Layout) -> Parts:
    """Take a mask apart."""
    T, S = len(layout.soft), layout.start + len(layout.soft)
    query, key = layout.start + np.arange(T)[:, None], np.arange(S)[None]
    cached = np.where(
        np.arange(layout.start) < layout.first[0], -1, layout.first[0]
    )  # pads and finished prompts: unseen alike
    prompt = np.concatenate([cached, np.where(real_rows(layout), layout.first, -1)])
    own = (prompt[layout.start :, None] == prompt) & (prompt >= 0)
    soft = np.concatenate(
        [np.zeros(layout.start, bool), layout.soft]
    )  # an image before this pass is merely cached keys
    blocks = image_blocks(layout.soft[None], layout.first[None], layout.start)[0]
    block = (key >= blocks[:, :1]) & (key < blocks[:, 1:])
    W = S if layout.window is None else layout.window
    return Parts(query, key, W, own, key <= query, query - key, block, layout.soft[:, None] & soft)


def compose(layout: Layout, parts: Parts) -> np.ndarray:
    """Put a mask together from its parts as the layout's composition says."""
    inside, ahead = parts.ago < parts.W, -parts.ago < parts.W
    if layout.composition == "before_46850":
        return parts.own & ((inside & parts.causal) | parts.block)
    return parts.own & inside & (ahead | (layout.composition != "two_sided")) & (parts.causal | parts.block)


def changed(**changes):
    """Make a mutant that runs the rule itself on a layout of which something is changed."""
    return lambda layout: visible(layout._replace(**{name: change(layout) for name, change in changes.items()}))


def parted(**changes):
    """Make a mutant that composes a mask of which some parts are changed."""

    def run(layout: Layout) -> np.ndarray:
        parts = parts_of(layout)
        return compose(layout, parts._replace(**{name: change(layout, parts) for name, change in changes.items()}))

    return run
