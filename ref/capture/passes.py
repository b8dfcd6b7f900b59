"""What a capture runs: the prompt, then cached steps after it.

What goes in beside the ids is what `generate` of transformers makes: a mask of the keys that are there, and positions
that begin at 0 behind the pads.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ref.capture.prompts import Prompt
from ref.config import TextConfig, VisionConfig, as_fields
from ref.dump.layouts import Lengths, lengths_of
from ref.errors import wanted


class Pass(NamedTuple):
    """One run of a model: the prompt, or a step after it. A capture gives arrays, or tensors of the model's library."""

    ids: Any  # [B, T] int64
    cached: int  # keys of earlier passes
    mask: Any  # [B, cached + T] int64, 1 where a key is there, 0 at pads
    positions: Any  # [B, T] int64, 0 at pads
    types: Any  # [B, T] int64, 1 at soft tokens
    pixels: Any  # [images, C, Y, X] of the prompt, None without images and in later passes
    returned: Any = None  # by the model in the pass before; None in the first


def first_pass(prompt: Prompt) -> Pass:
    """Return the run of a prompt."""
    types = np.zeros(prompt.ids.shape, np.int64)
    for row, blocks in enumerate(prompt.blocks):
        for start, stop in blocks:
            types[row, start:stop] = 1
    return _pass(prompt, prompt.ids, 0, types, prompt.pixels)


def next_pass(prompt: Prompt, before: Pass, logits: np.ndarray | None) -> Pass:
    """Return the step after a pass, of the most probable tokens.

    Args:
        prompt: that was run first.
        before: the pass that was run last.
        logits: [B, T, V] of it, or of its last token alone.

    Raises:
        BadInput: there are no such logits.

    Source: transformers 5.23 `GenerationMixin._sample`.
    Differs: no stop at any id.
    """
    rows = len(prompt.ids)
    if logits is None or logits.ndim != 3 or len(logits) != rows:
        got = "none" if logits is None else list(logits.shape)
        raise wanted("logits", "capture", f"[{rows}, T, V] of every pass, to choose the next token by", got)
    chosen = logits[:, -1].astype(np.float32).argmax(-1)[:, None].astype(np.int64)
    return _pass(prompt, chosen, before.mask.shape[1], np.zeros_like(chosen), None)


def _pass(prompt: Prompt, ids: np.ndarray, cached: int, types: np.ndarray, pixels: np.ndarray | None) -> Pass:
    key = np.arange(cached + ids.shape[1])
    pads = np.array(prompt.pads)[:, None]
    positions = np.maximum(key - pads, 0)
    return Pass(ids, cached, (key >= pads).astype(np.int64), positions[:, cached:], types, pixels)


def lengths_of_pass(config: TextConfig, vision: VisionConfig | None, at: Pass) -> Lengths:
    """Return the lengths that axes have in a pass.

    Args:
        config: of the weights.
        vision: of their tower; None where it has no part in the run.
        at: the pass.
    """
    rows, tokens = at.ids.shape
    images = None if at.pixels is None else len(at.pixels)
    return lengths_of(as_fields(config, vision), rows, tokens, at.cached, images)


def rows_of(prompt: Prompt, at: Pass) -> list[dict[str, Any]]:
    """Return what the dump says of a pass, row by row; positions are -1 at pads."""
    blocks = prompt.blocks if at.cached == 0 else [[]] * len(prompt.ids)
    said = zip(
        at.ids.tolist(), at.positions.tolist(), at.mask[:, at.cached :].tolist(), blocks, prompt.pads, strict=True
    )
    return [
        {
            "ids": ids,
            "positions": [one if there else -1 for one, there in zip(positions, mask, strict=True)],
            "cached": at.cached,
            "image_blocks": own,
            "left_pads": pads,
        }
        for ids, positions, mask, own, pads in said
    ]


def pixels_of(prompt: Prompt, at: Pass) -> list[np.ndarray | None]:
    """Return the pixels that went in with each row."""
    if prompt.pixels is None or at.cached:
        return [None] * len(prompt.ids)
    return [prompt.pixels[own] if own.stop > own.start else None for own in prompt.images]


def passes(prompt: Prompt, steps: int, run: Callable[[Pass], np.ndarray | None]) -> None:
    """Run a prompt and its greedy steps.

    Args:
        prompt: what is run first.
        steps: how many tokens of each row to choose and run; the last chosen one is run too.
        run: runs a pass, and returns its logits; None where there are none.

    Raises:
        BadInput: steps after logits that there are not.
    """
    at = first_pass(prompt)
    for step in range(steps + 1):
        logits = run(at)
        if step < steps:
            at = next_pass(prompt, at, logits)
