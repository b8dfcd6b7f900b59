"""Mistakes in what a query may see: window, causality, image blocks, padding, packed prompts, cached passes.

Each mutant is written as ports write it, with whole boolean matrices; the rule it departs from is
`ref.ops.visibility`. Rows of padding mean nothing: nobody asks what a pad sees.
"""

from typing import NamedTuple

import numpy as np

from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.ops.visibility import Composition, as_matrix, image_blocks, visible_ranges


class Layout(NamedTuple):
    """One batch row of one pass, as far as visibility goes."""

    soft: np.ndarray  # [T] bool: the token stands for a row of image features
    first: np.ndarray  # [T] int64: key index where the token's prompt starts (after left pads, or after packed prompts)
    start: int  # keys cached before this pass; the tokens' own key indices are start .. start + T - 1
    window: int | None  # W of a local layer; None: a global layer
    composition: Composition = "current"
    local_window: int = 512  # W of the model's local layers, for mistakes that a global layer can make


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


class _Parts(NamedTuple):
    """What a mask is composed of; [T, S] bool unless it says otherwise."""

    query: np.ndarray  # [T, 1] key index of each token
    key: np.ndarray  # [1, S]
    W: int  # of this layer; as long as the row in a global one
    own: np.ndarray  # the key is of the query's own prompt, and neither is padding
    causal: np.ndarray
    ago: np.ndarray  # [T, S] integers: how far the key lies behind the query
    block: np.ndarray  # both in one image
    both_soft: np.ndarray  # both in some image of this pass


def _parts(layout: Layout) -> _Parts:
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
    return _Parts(query, key, W, own, key <= query, query - key, block, layout.soft[:, None] & soft)


def _compose(layout: Layout, parts: _Parts) -> np.ndarray:
    """Put a mask together from its parts as the layout's composition says."""
    inside, ahead = parts.ago < parts.W, -parts.ago < parts.W
    if layout.composition == "before_46850":
        return parts.own & ((inside & parts.causal) | parts.block)
    return parts.own & inside & (ahead | (layout.composition != "two_sided")) & (parts.causal | parts.block)


def _with(**changes):
    """Make a mutant that runs the rule itself on a layout of which something is changed."""
    return lambda layout: visible(layout._replace(**{name: change(layout) for name, change in changes.items()}))


def _parted(**changes):
    """Make a mutant that composes a mask of which some parts are changed."""

    def run(layout: Layout) -> np.ndarray:
        parts = _parts(layout)
        return _compose(layout, parts._replace(**{name: change(layout, parts) for name, change in changes.items()}))

    return run


def _local(width):
    """Make a mutant whose local layers have another window, which may be 0."""
    return _parted(W=lambda layout, parts: parts.W if layout.window is None else width(parts.W))


def _transposed(layout: Layout) -> np.ndarray:
    out = visible(layout)
    out[:, layout.start :] = out[:, layout.start :].T.copy()
    return out


def _pads_visible(layout: Layout) -> np.ndarray:
    parts = _parts(layout)
    return visible(layout) | ((parts.key < layout.first[0]) & parts.causal & (parts.ago < parts.W))


def _grown(layout: Layout) -> np.ndarray:
    same = layout.first[1:] == layout.first[:-1]
    grown = layout.soft.copy()
    grown[1:] |= layout.soft[:-1] & same
    grown[:-1] |= layout.soft[1:] & same
    return grown & real_rows(layout)


def _only_on(kind: str):
    def run(layout: Layout) -> np.ndarray:
        is_kind = (layout.window is not None) == (kind == "local")
        return visible(layout if is_kind else layout._replace(soft=np.zeros_like(layout.soft)))

    return run


def _long_dropped(layout: Layout) -> np.ndarray:
    parts = _parts(layout)
    return visible(layout) & (parts.causal | (parts.block.sum(axis=1, keepdims=True) <= parts.W))


def _cut_by_chunk(layout: Layout) -> np.ndarray:
    parts = _parts(layout)
    return visible(layout) & (parts.causal | (parts.query // layout.local_window == parts.key // layout.local_window))


def _block_at_wrong_keys(layout: Layout, parts: _Parts) -> np.ndarray:
    block = np.zeros_like(parts.block)
    block[:, : len(layout.soft)] = parts.block[:, layout.start :]
    return block


def _ring_overwritten(layout: Layout) -> np.ndarray:
    parts = _parts(layout)
    kept = parts.key >= layout.start + len(layout.soft) - parts.W
    return visible(layout) & kept if layout.start and layout.window else visible(layout)


def _positions_ago(layout: Layout, parts: _Parts) -> np.ndarray:
    """How far keys lie behind queries by positions that restart in each prompt."""
    first = np.concatenate([np.full(layout.start, layout.first[0]), layout.first])
    return (parts.query - layout.first[:, None]) - (parts.key - first)


_LONG = Needs(local_layer=True, windows=1)
_LONG_BLOCK = Needs(local_layer=True, long_image=True)
_CACHED_IMAGE = Needs(cached=True, soft_tokens=2, note="in this order")

VISIBILITY_MUTANTS: list[RuleMutant] = [
    # the window
    RuleMutant(
        name="window_plus_one",
        what="a local layer sees W keys besides the query's own, W + 1 in all",
        needs=_LONG,
        run=_local(lambda W: W + 1),
    ),
    RuleMutant(
        name="window_minus_one",
        what="a local layer sees W - 1 keys in all, one too few",
        needs=Needs(local_layer=True, note="a prompt of at least W tokens"),
        run=_local(lambda W: W - 1),
    ),
    RuleMutant(
        name="window_half",
        what="a local layer sees W // 2 keys: halving belongs to two-sided models, as EmbeddingGemma",
        needs=Needs(local_layer=True, windows=0.5),
        run=_local(lambda W: W // 2),
    ),
    RuleMutant(
        name="window_ignored",
        what="a local layer sees everything, as a global one does",
        needs=_LONG,
        run=_with(window=lambda layout: None),
    ),
    RuleMutant(
        name="window_on_global",
        what="a global layer has the window of the local ones",
        needs=Needs(global_layer=True, windows=1),
        run=_with(window=lambda layout: layout.window or layout.local_window),
    ),
    # causality
    RuleMutant(
        name="no_causal",
        what="the future leaks: later tokens are visible",
        needs=Needs(tokens=2),
        run=_parted(causal=lambda layout, parts: np.ones_like(parts.causal)),
    ),
    RuleMutant(
        name="mask_transposed",
        what="rows and columns of the mask are swapped",
        needs=Needs(tokens=2),
        run=_transposed,
    ),
    RuleMutant(
        name="self_excluded",
        what="a text token does not see itself, only strictly earlier keys",
        needs=Needs(note="a text token"),
        run=_parted(causal=lambda layout, parts: parts.ago > 0),
    ),
    # padding
    RuleMutant(
        name="pads_visible",
        what="left pads are seen as if they were tokens",
        needs=Needs(left_pads=True, note="or keys of an earlier prompt in the cache"),
        run=_pads_visible,
    ),
    RuleMutant(
        name="pads_shift_queries",
        what="queries are counted from their prompt's first token, keys from the row's",
        needs=Needs(left_pads=True, packed=True),
        run=_parted(
            ago=lambda layout, parts: parts.ago - layout.first[:, None],
            causal=lambda layout, parts: parts.ago >= layout.first[:, None],
        ),
    ),
    # image blocks
    RuleMutant(
        name="image_causal",
        what="image tokens see only earlier keys, as text does",
        needs=Needs(soft_tokens=2),
        run=_with(soft=lambda layout: np.zeros_like(layout.soft)),
    ),
    RuleMutant(
        name="images_mutually_visible",
        what="all images of a prompt are one block: an image sees the later ones",
        needs=Needs(images=2),
        run=_parted(block=lambda layout, parts: parts.both_soft),
    ),
    RuleMutant(
        name="image_sees_future",
        what="an image token sees every later token of its prompt, as in a prefix-LM",
        needs=Needs(image="with something after it"),
        run=_parted(causal=lambda layout, parts: parts.causal | layout.soft[:, None]),
    ),
    RuleMutant(
        name="markers_in_block",
        what="the tokens around an image, <start_of_image> and <end_of_image>, are in its block",
        needs=Needs(image="with a token beside it"),
        run=_with(soft=_grown),
    ),
    RuleMutant(
        name="padding_mask_only",
        what="where there is an image, the padding mask is all: no causality, no window",
        needs=Needs(image="one", note="and text or a window"),
        run=lambda layout: _parts(layout).own if layout.soft.any() else visible(layout),
    ),
    RuleMutant(
        name="block_only_on_global",
        what="local layers treat image tokens as text",
        needs=Needs(local_layer=True, soft_tokens=2),
        run=_only_on("global"),
    ),
    RuleMutant(
        name="block_only_on_local",
        what="global layers treat image tokens as text",
        needs=Needs(global_layer=True, soft_tokens=2),
        run=_only_on("local"),
    ),
    RuleMutant(
        name="composition_current",
        what="composed as window and (causal or block)",
        needs=_LONG_BLOCK,
        run=_with(composition=lambda layout: "current"),
    ),
    RuleMutant(
        name="composition_before_46850",
        what="composed as (window and causal) or block: an image sees all of itself",
        needs=_LONG_BLOCK,
        run=_with(composition=lambda layout: "before_46850"),
    ),
    RuleMutant(
        name="composition_two_sided",
        what="the window also bounds how far ahead an image token sees",
        needs=_LONG_BLOCK,
        run=_with(composition=lambda layout: "two_sided"),
    ),
    RuleMutant(
        name="long_block_dropped",
        what="an image block longer than the window turns causal instead of being cut by it",
        needs=_LONG_BLOCK,
        run=_long_dropped,
    ),
    # cached passes and packed prompts
    RuleMutant(
        name="block_cut_by_chunk",
        what="prefill runs in chunks, here of W tokens, and an image ends where its chunk does",
        needs=Needs(image="over a border of two chunks"),
        run=_cut_by_chunk,
    ),
    RuleMutant(
        name="block_only_without_cache",
        what="token types are used in the first pass only: later images are causal",
        needs=_CACHED_IMAGE,
        run=_with(soft=lambda layout: layout.soft & (layout.start == 0)),
    ),
    RuleMutant(
        name="block_at_wrong_keys",
        what="places of images are counted from the pass instead of the first cached key",
        needs=_CACHED_IMAGE,
        run=_parted(block=_block_at_wrong_keys),
    ),
    RuleMutant(
        name="cached_positions_restart",
        what="queries after cached keys are counted from 0",
        needs=Needs(cached=True),
        run=_parted(
            ago=lambda layout, parts: parts.ago - layout.start, causal=lambda layout, parts: parts.ago >= layout.start
        ),
    ),
    RuleMutant(
        name="cache_unseen",
        what="the tokens of a pass see each other, but none of the cached keys",
        needs=Needs(cached=True, note="those of the same prompt"),
        run=lambda layout: visible(layout) & (_parts(layout).key >= layout.start),
    ),
    RuleMutant(
        name="ring_overwritten",
        what="a pass writes its keys into the ring of W slots before its first tokens have read",
        needs=Needs(tokens=2, local_layer=True, cached=True, note="more than W keys"),
        run=_ring_overwritten,
    ),
    RuleMutant(
        name="packed_leak",
        what="packed prompts see the prompts before them",
        needs=Needs(packed=True),
        run=_with(first=lambda layout: np.where(real_rows(layout), layout.first[0], layout.first)),
    ),
    RuleMutant(
        name="packed_by_restarted_positions",
        what="keys are compared by positions that restart in each packed prompt",
        needs=Needs(packed=True),
        run=_parted(
            own=lambda layout, parts: real_rows(layout)[:, None] & parts.own.any(axis=0),
            ago=_positions_ago,
            causal=lambda layout, parts: _positions_ago(layout, parts) >= 0,
        ),
    ),
]
