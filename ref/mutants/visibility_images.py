"""Mistakes in image blocks: which tokens are in one, and how it meets causality and the window."""

import numpy as np

from ref.mutants.base import RuleMutant
from ref.mutants.needs import Needs
from ref.mutants.visibility_parts import Layout, Parts, changed, parted, parts_of, real_rows, visible


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


def _by_distance(layout: Layout, parts: Parts) -> np.ndarray:
    """Take image tokens for one image where they are no further apart than the query's image is long."""
    return parts.both_soft & (np.abs(parts.ago) <= parts.block.sum(axis=1, keepdims=True))


def _long_dropped(layout: Layout) -> np.ndarray:
    parts = parts_of(layout)
    return visible(layout) & (parts.causal | (parts.block.sum(axis=1, keepdims=True) <= parts.W))


_LONG_BLOCK = Needs(local_layer=True, long_image=True)

IMAGE_BLOCK_MUTANTS: list[RuleMutant] = [
    RuleMutant(
        name="image_causal",
        what="image tokens see only earlier keys, as text does",
        needs=Needs(soft_tokens=2),
        run=changed(soft=lambda layout: np.zeros_like(layout.soft)),
    ),
    RuleMutant(
        name="images_mutually_visible",
        what="all images of a prompt are one block: an image sees the later ones",
        needs=Needs(images=2),
        run=parted(block=lambda layout, parts: parts.both_soft),
    ),
    RuleMutant(
        name="image_blocks_by_distance",
        what="image tokens at most an image's length apart are one block: an image sees the start of the next",
        needs=Needs(images=2, note="nearer to each other than an image is long"),
        run=parted(block=_by_distance),
    ),
    RuleMutant(
        name="image_sees_future",
        what="an image token sees every later token of its prompt, as in a prefix-LM",
        needs=Needs(image="with something after it"),
        run=parted(causal=lambda layout, parts: parts.causal | layout.soft[:, None]),
    ),
    RuleMutant(
        name="markers_in_block",
        what="the tokens around an image, <start_of_image> and <end_of_image>, are in its block",
        needs=Needs(image="with a token beside it"),
        run=changed(soft=_grown),
    ),
    RuleMutant(
        name="padding_mask_only",
        what="where there is an image, the padding mask is all: no causality, no window",
        needs=Needs(image="one", note="and text or a window"),
        run=lambda layout: parts_of(layout).own if layout.soft.any() else visible(layout),
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
        run=changed(composition=lambda layout: "current"),
    ),
    RuleMutant(
        name="composition_before_46850",
        what="composed as (window and causal) or block: an image sees all of itself",
        needs=_LONG_BLOCK,
        run=changed(composition=lambda layout: "before_46850"),
    ),
    RuleMutant(
        name="composition_two_sided",
        what="the window also bounds how far ahead an image token sees",
        needs=_LONG_BLOCK,
        run=changed(composition=lambda layout: "two_sided"),
    ),
    RuleMutant(
        name="long_block_dropped",
        what="an image block longer than the window turns causal instead of being cut by it",
        needs=_LONG_BLOCK,
        run=_long_dropped,
    ),
]
