"""A port that takes image tokens for one image where they are near each other, as transformers 4.53 does."""

import numpy as np
import pytest
from support.caused import only_cause
from support.image_dumps import EACH, SOFT, report_of_rows, taps_with_images

from ref.config import SIZES, VISION
from ref.emulate.text_rules import LAYER
from ref.golden_files.sampled import made_pixels

PIXELS = made_pixels(2, VISION["tiny"].image)
NAME, WINDOW = "image_blocks_by_distance", SIZES["tiny"].window


def prompt(apart):
    """Put two images so many tokens apart, as <end_of_image> and <start_of_image> stand between them."""
    return [2, 5, 9, *[SOFT] * EACH, *range(40, 40 + apart), *[SOFT] * EACH, 8, 11, 23, 54]


def near(at):
    """See back as text does, and any image token that is at most an image's tokens away."""
    images = at.one_pass.places[0]
    ago = np.arange(len(images))[:, None] - np.arange(len(images))
    block = images[:, None] & images & (np.abs(ago) <= EACH)
    reach = len(images) if at.config.is_global(at.layer) else WINDOW
    return ((ago < reach) & ((ago >= 0) | block))[None]


def report_of(apart, hidden=()):
    taps = taps_with_images(prompt(apart), PIXELS, {LAYER + "attn.visible": near})
    shown = {tap: value for tap, value in taps.items() if not tap.endswith(hidden)}
    return report_of_rows([prompt(apart)], [PIXELS], [shown])


@pytest.mark.parametrize("hidden", [(), ("attn.visible",), ("attn.visible", "attn.scores", "_rope", "_norm")])
def test_it_is_named_where_two_images_are_near(hidden):
    cause = only_cause(report_of(2, hidden))
    assert (cause["mutant"], cause["layers"]) == (NAME, list(range(SIZES["tiny"].layers)))
    assert cause["taps"][0] == f"text.layer.0.attn.{'probs' if hidden else 'visible'}"


def test_images_further_apart_hide_it():
    assert report_of(EACH)["verdict"] == "match"
