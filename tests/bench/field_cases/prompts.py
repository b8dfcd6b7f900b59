"""The prompts that cases are run on: short ones, so that all of them are bearable on two cores."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ref.golden_files.sampled import made_pixels
from ref.weights.resolve import Loaded

ROOT = Path(__file__).resolve().parents[3]
LENGTHS = {"tiny": {"text": 32, "cached": 14}, "270m": {"text": 40, "cached": 32}}
STEPS = 2
SOFT, PER_IMAGE, SIDE = 97, 4, 40  # of `tiny`


class Prompt(NamedTuple):
    """What a model is run on."""

    ids: list[Any]  # [T], or [B, T] where there are rows
    pixels: np.ndarray | None = None
    steps: int = 0

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `capture` beside ids."""
        import torch

        pixels = {} if self.pixels is None else {"pixel_values": torch.from_numpy(self.pixels)}
        return {"steps": self.steps} | pixels


def prompt_for(loaded: Loaded, subject: str, kind: str) -> Prompt:
    """Return a prompt.

    Args:
        loaded: the weights.
        subject: tiny or 270m.
        kind: text, cached (two greedy steps follow), images (three in one row) or rows (three rows of one image each).
    """
    if kind in ("images", "rows"):
        return _seeing(kind)
    steps, length = STEPS if kind == "cached" else 0, LENGTHS[subject][kind]
    if subject == "tiny":
        return Prompt([2, *_text(length - 1)], None, steps)
    return Prompt(loaded.tokenizer().encode((ROOT / "LICENSE").read_text())[:length], None, steps)


def _text(length: int, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(3, 96, length).tolist()


def _seeing(kind: str) -> Prompt:
    pixels, image = made_pixels(3, SIDE), [SOFT] * PER_IMAGE
    if kind == "rows":
        return Prompt([[2, *_text(3, row), *image, *_text(9, 9 + row)] for row in range(3)], pixels)
    return Prompt([2, *_text(2), *image, *_text(3, 2), *image, *_text(2, 3), *image, *_text(8, 4)], pixels)
