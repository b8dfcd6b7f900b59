"""Mistakes in what a query may see: window, causality, padding, packed prompts, cached passes, and image blocks."""

import numpy as np

from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.mutants.visibility_images import IMAGE_BLOCK_MUTANTS
from ref.mutants.visibility_parts import Layout, Parts, changed, parted, parts_of, real_rows, visible


def _local(width):
    """Make a mutant whose local layers have another window, which may be 0."""
    return parted(W=lambda layout, parts: parts.W if layout.window is None else width(parts.W))


def _transposed(layout: Layout) -> np.ndarray:
    out = visible(layout)
    out[:, layout.start :] = out[:, layout.start :].T.copy()
    return out


def _begin(layout: Layout) -> int:
    return int(layout.first[0]) if layout.begin is None else layout.begin


def _pads_visible(layout: Layout) -> np.ndarray:
    parts = parts_of(layout)
    return visible(layout) | ((parts.key < _begin(layout)) & parts.causal & (parts.ago < parts.W))


def _cut_by_chunk(layout: Layout) -> np.ndarray:
    parts = parts_of(layout)
    return visible(layout) & (parts.causal | (parts.query // layout.local_window == parts.key // layout.local_window))


def _block_at_wrong_keys(layout: Layout, parts: Parts) -> np.ndarray:
    block = np.zeros_like(parts.block)
    block[:, : len(layout.soft)] = parts.block[:, layout.start :]
    return block


def _ring_overwritten(layout: Layout) -> np.ndarray:
    parts = parts_of(layout)
    kept = parts.key >= layout.start + len(layout.soft) - parts.W
    return visible(layout) & kept if layout.start and layout.window else visible(layout)


def _positions_ago(layout: Layout, parts: Parts) -> np.ndarray:
    """How far keys lie behind queries by positions that restart in each prompt."""
    first = np.concatenate([np.full(layout.start, layout.first[0]), layout.first])
    return (parts.query - layout.first[:, None]) - (parts.key - first)


_LONG = Needs(local_layer=True, windows=1)
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
        run=changed(window=lambda layout: None),
    ),
    RuleMutant(
        name="window_on_global",
        what="a global layer has the window of the local ones",
        needs=Needs(global_layer=True, windows=1),
        run=changed(window=lambda layout: layout.window or layout.local_window),
    ),
    # causality
    RuleMutant(
        name="no_causal",
        what="the future leaks: later tokens are visible",
        needs=Needs(tokens=2),
        run=parted(causal=lambda layout, parts: np.ones_like(parts.causal)),
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
        run=parted(causal=lambda layout, parts: parts.ago > 0),
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
        run=parted(
            ago=lambda layout, parts: parts.ago - layout.first[:, None],
            causal=lambda layout, parts: parts.ago >= layout.first[:, None],
        ),
    ),
    *IMAGE_BLOCK_MUTANTS,
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
        run=changed(soft=lambda layout: layout.soft & (layout.start == 0)),
    ),
    RuleMutant(
        name="block_at_wrong_keys",
        what="places of images are counted from the pass instead of the first cached key",
        needs=_CACHED_IMAGE,
        run=parted(block=_block_at_wrong_keys),
    ),
    RuleMutant(
        name="cached_positions_restart",
        what="queries after cached keys are counted from 0",
        needs=Needs(cached=True),
        run=parted(
            ago=lambda layout, parts: parts.ago - layout.start, causal=lambda layout, parts: parts.ago >= layout.start
        ),
    ),
    RuleMutant(
        name="cache_unseen",
        what="the tokens of a pass see each other, but none of the cached keys",
        needs=Needs(cached=True, note="those of the same prompt"),
        run=lambda layout: visible(layout) & (parts_of(layout).key >= layout.start),
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
        run=changed(first=lambda layout: np.where(real_rows(layout), _begin(layout), layout.first)),
    ),
    RuleMutant(
        name="packed_by_restarted_positions",
        what="keys are compared by positions that restart in each packed prompt",
        needs=Needs(packed=True),
        run=parted(
            own=lambda layout, parts: real_rows(layout)[:, None] & parts.own.any(axis=0),
            ago=_positions_ago,
            causal=lambda layout, parts: _positions_ago(layout, parts) >= 0,
        ),
    ),
]
