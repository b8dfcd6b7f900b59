"""The prompt that would decide: made of what mistakes need and a dump lacks, out of the dump's own ids."""

import math
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ref.config import BOS, END_OF_IMAGE, PAD, SIZES, START_OF_IMAGE, TWO_NEWLINES, TextConfig, VisionConfig
from ref.dump.opened import Dump
from ref.dump.prompt_file import PromptFile
from ref.judge.judgement import Judgement
from ref.model.multimodal import soft_token_id
from ref.mutants.needs import Needs

BEYOND, STEPS, PADS = 8, 2, 3  # tokens beyond the window; cached steps; left pads of the second row
USUAL = 12  # tokens of a prompt that need not be long


class Exercised(NamedTuple):
    """What the passes of a dump have, as far as mistakes need it."""

    config: TextConfig
    vision: VisionConfig | None
    longest: int  # tokens of a prompt with its steps, without pads
    images: int  # at most in one prompt
    cached: bool
    left_pads: bool
    packed: bool
    float32: bool
    local_layer: bool  # whether the dump has taps of one
    global_layer: bool


def exercised_by(judged: Judgement, opened: Dump) -> Exercised:
    """Look through the passes of a dump."""
    passes = [one.one_pass for one in judged.all_runs]
    config, vision = passes[0].config, passes[0].vision
    layers = {layer for one in judged.findings if one.tap.startswith("text.") and (layer := one.layer) is not None}
    return Exercised(
        config,
        vision.config if vision else None,
        max(int(one.positions.max(initial=-1)) + 1 for one in passes),
        max(0 if one.pixels is None else len(one.pixels) for one in passes),
        any(one.cached for one in passes),
        any(bool((one.positions < 0).any()) for one in passes),
        any(one.is_packed for one in passes),
        opened.policy.get("compute_dtype") == "float32",
        any(not config.is_global(layer) for layer in layers),
        any(config.is_global(layer) for layer in layers),
    )


def lacking(needs: Needs, there: Exercised) -> Needs:
    """Leave of what a mistake needs what a dump has not."""
    usual, config = Needs(), there.config
    has = {
        "position": there.longest > needs.position,
        "tokens": there.longest >= needs.tokens,
        "bfloat16_tokens": there.float32 or there.longest >= needs.bfloat16_tokens,
        "windows": there.longest > needs.windows * config.window,
        "image": there.images > 0,
        "images": there.images >= needs.images,
        "soft_tokens": there.images > 0,
        "long_image": there.images > 0,
        "cached": there.cached,
        "left_pads": there.left_pads or (needs.packed and there.packed),
        "packed": there.packed or (needs.left_pads and there.left_pads),
        "float32": there.float32,
        "local_layer": there.local_layer,
        "global_layer": there.global_layer,
        "layers": config.layers >= needs.layers,
        "query_heads": config.query_heads >= needs.query_heads,
        "kv_heads": config.kv_heads >= needs.kv_heads,
        "group": config.query_heads // config.kv_heads >= needs.group,
        "odd_depth": config.layers % config.global_every > 0,
        "sizes": config.name.upper() in needs.sizes or config.name not in SIZES or config.name == "tiny",
        "note": True,
    }
    return needs._replace(**{name: getattr(usual, name) for name, there in has.items() if there})


class Wish(NamedTuple):
    """What a prompt must have."""

    tokens: int = 0
    images: int = 0
    steps: int = 0
    left_pads: bool = False


def together(wishes: Iterable[Wish | None]) -> Wish:
    """Return what one prompt must have for all of several."""
    several = [one for one in wishes if one]
    return Wish(*map(max, *several)) if len(several) > 1 else several[0] if several else Wish()


def wish_of(needs: Needs, there: Exercised) -> Wish | None:
    """Return what a prompt must have to show what a dump lacks; None where no prompt of this model shows it."""
    config = there.config
    kept = needs._replace(note="", local_layer=False, global_layer=False, float32=False)
    if kept.sizes or kept.odd_depth or max(kept.layers, kept.query_heads, kept.kv_heads, kept.group) > 1:
        return None
    if (kept.packed and not kept.left_pads) or (kept.has_image and there.vision is None):
        return None
    if kept.long_image and there.vision and there.vision.soft_tokens <= config.window:
        return None
    beyond = math.floor(kept.windows * config.window) + BEYOND if kept.windows else 0
    tokens = max(beyond, kept.position + 1, kept.tokens, kept.bfloat16_tokens)
    wish = Wish(
        tokens if tokens > 1 else 0,
        max(kept.images, int(kept.has_image)),
        STEPS if kept.cached else 0,
        bool(kept.left_pads),
    )
    return wish if any(wish) and wish.tokens + wish.steps <= config.max_positions else None


class PlannedPrompt(NamedTuple):
    """A prompt to be written."""

    prompt: PromptFile
    pictures: list[np.ndarray]  # [Y, X, 3] uint8, for the names of its images


def plan(wish: Wish, there: Exercised, opened: Dump) -> PlannedPrompt:
    """Make the prompt: BOS, then the dump's own ids over and over; the same each time.

    Args:
        wish: what it must have.
        there: what the dump has.
        opened: the dump, whose ids are taken.
    """
    words = _words(opened, there.config)
    length = max(wish.tokens, min(USUAL, there.config.max_positions - wish.steps))
    image = _image_ids(there) * wish.images
    text = cycle(words)
    row = [BOS, *islice(text, 2), *image]
    row += islice(text, max(length - len(row), 3 if image else 0))
    rows, pads = [row], [0]
    if wish.left_pads:
        short = [BOS, *islice(cycle(words), len(row) - PADS - 1)]
        rows, pads = [row, [PAD] * PADS + short], [0, PADS]
    pictures = [_picture(number, there.vision.image) for number in range(wish.images)] if there.vision else []
    names = tuple(Path(f"image-{number}.png") for number in range(len(pictures)))
    return PlannedPrompt(PromptFile(rows, pads, wish.steps, names), pictures)


def _words(opened: Dump, config: TextConfig) -> list[int]:
    """Return the ids of the first prompt that stand for text."""
    special = {PAD, BOS, START_OF_IMAGE, END_OF_IMAGE, soft_token_id(config)}
    first: Any = next((one for one in opened.passes if not one.cached), opened.passes[0])
    words = [int(one) for one in first.ids if int(one) not in special and 0 <= one < config.vocabulary]
    return words or [one for one in range(BOS + 1, BOS + 8) if one < config.vocabulary]


def _image_ids(there: Exercised) -> list[int]:
    if there.vision is None:
        return []
    soft = [soft_token_id(there.config)] * there.vision.soft_tokens
    if there.config.vocabulary <= END_OF_IMAGE:
        return [*soft, BOS + 1]  # a toy has no markers; a token between two images keeps them apart
    return [TWO_NEWLINES, START_OF_IMAGE, *soft, END_OF_IMAGE, TWO_NEWLINES]


def _picture(number: int, side: int) -> np.ndarray:
    """Draw an image that is neither grey nor alike in any two places."""
    rng = np.random.default_rng([number, side])
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side))[..., None] * np.array([1, 2, 3])
    return ((ramp + rng.integers(0, 96, (side, side, 3))) % 256).astype(np.uint8)
