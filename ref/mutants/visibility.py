"""Mistakes in what a query may see: window, causality, image blocks, padding, packed prompts, cached passes.

Each mutant is written as ports write it, with whole boolean matrices; the rule it departs from is
`ref.ops.visibility`. Rows of padding mean nothing: nobody asks what a pad sees.
"""

from typing import NamedTuple

import numpy as np

from ref.mutants.base import RuleMutant
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


_LONG = "a local layer and a prompt longer than its window"
_IMAGE = "an image of at least two soft tokens"
_LONG_BLOCK = "a local layer and an image block longer than its window"
_CACHED_IMAGE = "cached keys and, after them, an image of at least two soft tokens"

VISIBILITY_MUTANTS: list[RuleMutant] = [
    # the window
    RuleMutant(
        "window_plus_one",
        "a local layer sees W keys besides the query's own, W + 1 in all",
        "mlx-lm before PR 390; transformers 4.50, bounds of its flash-attention path; TensorRT-LLM PR 5564",
        _LONG,
        _local(lambda W: W + 1),
    ),
    RuleMutant(
        "window_minus_one",
        "a local layer sees W - 1 keys in all, one too few",
        "GEMMA3_SPEC 9.1 item 1",
        "a local layer and a prompt of at least W tokens",
        _local(lambda W: W - 1),
    ),
    RuleMutant(
        "window_half",
        "a local layer sees W // 2 keys: halving belongs to two-sided models, as EmbeddingGemma",
        "GEMMA3_SPEC 9.1 item 1; 2.7",
        "a local layer and a prompt longer than half of its window",
        _local(lambda W: W // 2),
    ),
    RuleMutant(
        "window_ignored",
        "a local layer sees everything, as a global one does",
        "sglang PR 4823 (the window never reached the attention backend); tt-metal 31471",
        _LONG,
        _with(window=lambda layout: None),
    ),
    RuleMutant(
        "window_on_global",
        "a global layer has the window of the local ones",
        "text-generation-inference PR 3112; lmdeploy 3772",
        "a global layer and a prompt longer than the window of local layers",
        _with(window=lambda layout: layout.window or layout.local_window),
    ),
    # causality
    RuleMutant(
        "no_causal",
        "the future leaks: later tokens are visible",
        "GEMMA3_SPEC 9.1 item 21",
        "two tokens of a prompt",
        _parted(causal=lambda layout, parts: np.ones_like(parts.causal)),
    ),
    RuleMutant(
        "mask_transposed",
        "rows and columns of the mask are swapped",
        "GEMMA3_SPEC 9.1 item 21",
        "two tokens of a prompt",
        _transposed,
    ),
    RuleMutant(
        "self_excluded",
        "a text token does not see itself, only strictly earlier keys",
        "GEMMA3_SPEC 9.1 item 21",
        "a text token",
        _parted(causal=lambda layout, parts: parts.ago > 0),
    ),
    # padding
    RuleMutant(
        "pads_visible",
        "left pads are seen as if they were tokens",
        "GEMMA3_SPEC 9.1 item 22; maxtext 2179 (logits changed with the padded length)",
        "left pads, or keys of an earlier prompt in the cache",
        _pads_visible,
    ),
    RuleMutant(
        "pads_shift_queries",
        "queries are counted from their prompt's first token, keys from the row's",
        "GEMMA3_SPEC 9.1 item 22 (position ids ignoring left pads)",
        "left pads or packed prompts",
        _parted(
            ago=lambda layout, parts: parts.ago - layout.first[:, None],
            causal=lambda layout, parts: parts.ago >= layout.first[:, None],
        ),
    ),
    # image blocks
    RuleMutant(
        "image_causal",
        "image tokens see only earlier keys, as text does",
        "llama.cpp 12433, fixed by its PR 12615; vLLM 14660; sglang before its PR 10707",
        _IMAGE,
        _with(soft=lambda layout: np.zeros_like(layout.soft)),
    ),
    RuleMutant(
        "images_mutually_visible",
        "all images of a prompt are one block: an image sees the later ones",
        "transformers 38053, in 4.50 and 4.51, fixed by its PR 38080 and 38295",
        "two images in one prompt",
        _parted(block=lambda layout, parts: parts.both_soft),
    ),
    RuleMutant(
        "image_sees_future",
        "an image token sees every later token of its prompt, as in a prefix-LM",
        "GEMMA3_SPEC 9.1 item 28",
        "an image with something after it",
        _parted(causal=lambda layout, parts: parts.causal | layout.soft[:, None]),
    ),
    RuleMutant(
        "markers_in_block",
        "the tokens around an image, <start_of_image> and <end_of_image>, are in its block",
        "GEMMA3_SPEC 9.1 item 29; transformers 39389",
        "an image with a token beside it",
        _with(soft=_grown),
    ),
    RuleMutant(
        "padding_mask_only",
        "where there is an image, the padding mask is all: no causality, no window",
        "GEMMA3_SPEC 2.8 (mlx-vlm); mlx-vlm 671",
        "an image, and text or a window",
        lambda layout: _parts(layout).own if layout.soft.any() else visible(layout),
    ),
    RuleMutant(
        "block_only_on_global",
        "local layers treat image tokens as text",
        "GEMMA3_SPEC 9.1 item 31",
        "a local layer and " + _IMAGE,
        _only_on("global"),
    ),
    RuleMutant(
        "block_only_on_local",
        "global layers treat image tokens as text",
        "GEMMA3_SPEC 9.1 item 31",
        "a global layer and " + _IMAGE,
        _only_on("local"),
    ),
    RuleMutant(
        "composition_current",
        "composed as window and (causal or block)",
        "transformers from its PR 46850 on",
        _LONG_BLOCK,
        _with(composition=lambda layout: "current"),
    ),
    RuleMutant(
        "composition_before_46850",
        "composed as (window and causal) or block: an image sees all of itself",
        "transformers from 4.52 to its PR 46850",
        _LONG_BLOCK,
        _with(composition=lambda layout: "before_46850"),
    ),
    RuleMutant(
        "composition_two_sided",
        "the window also bounds how far ahead an image token sees",
        "google-deepmind/gemma; keras-hub",
        _LONG_BLOCK,
        _with(composition=lambda layout: "two_sided"),
    ),
    RuleMutant(
        "long_block_dropped",
        "an image block longer than the window turns causal instead of being cut by it",
        "vLLM 47217; transformers 46711",
        _LONG_BLOCK,
        _long_dropped,
    ),
    # cached passes and packed prompts
    RuleMutant(
        "block_cut_by_chunk",
        "prefill runs in chunks, here of W tokens, and an image ends where its chunk does",
        "GEMMA3_SPEC 9.1 item 32; mlx-vlm 669",
        "an image over a border of two chunks",
        _cut_by_chunk,
    ),
    RuleMutant(
        "block_only_without_cache",
        "token types are used in the first pass only: later images are causal",
        "GEMMA3_SPEC 2.8; 9.1 item 23; transformers 39396",
        _CACHED_IMAGE,
        _with(soft=lambda layout: layout.soft & (layout.start == 0)),
    ),
    RuleMutant(
        "block_at_wrong_keys",
        "places of images are counted from the pass instead of the first cached key",
        "GEMMA3_SPEC 9.1 item 23",
        _CACHED_IMAGE,
        _parted(block=_block_at_wrong_keys),
    ),
    RuleMutant(
        "cached_positions_restart",
        "queries after cached keys are counted from 0",
        "GEMMA3_SPEC 9.1 item 22; transformers 39711",
        "cached keys",
        _parted(
            ago=lambda layout, parts: parts.ago - layout.start, causal=lambda layout, parts: parts.ago >= layout.start
        ),
    ),
    RuleMutant(
        "cache_unseen",
        "the tokens of a pass see each other, but none of the cached keys",
        "GEMMA3_SPEC 9.1 item 22; mlx-vlm 669",
        "cached keys of the same prompt",
        lambda layout: visible(layout) & (_parts(layout).key >= layout.start),
    ),
    RuleMutant(
        "ring_overwritten",
        "a pass writes its keys into the ring of W slots before its first tokens have read",
        "litgpt PR 2153 (the cache across its wrap); transformers 39711",
        "a local layer, cached keys, a pass of at least two tokens, more than W keys",
        _ring_overwritten,
    ),
    RuleMutant(
        "packed_leak",
        "packed prompts see the prompts before them",
        "golden/vectors/visibility.json, PackedLeak",
        "two prompts in one row",
        _with(first=lambda layout: np.where(real_rows(layout), layout.first[0], layout.first)),
    ),
    RuleMutant(
        "packed_by_restarted_positions",
        "keys are compared by positions that restart in each packed prompt",
        "ARCHITECTURE 3; golden/vectors/visibility.json, PackedByPosition",
        "two prompts in one row",
        _parted(
            own=lambda layout, parts: real_rows(layout)[:, None] & parts.own.any(axis=0),
            ago=_positions_ago,
            causal=lambda layout, parts: _positions_ago(layout, parts) >= 0,
        ),
    ),
]
