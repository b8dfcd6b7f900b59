"""What `explore` is asked about: a model with pictures, and a page without room for attention."""

from importlib.util import find_spec

import numpy as np
import pytest

import ref
from ref.show.explore import Photo, packed

plotly = pytest.mark.skipif(not find_spec("plotly"), reason="needs plotly: pip install -e '.[report]'")


def with_images():
    """`tiny` and two pictures, one with crops: text, four soft tokens an image."""
    loaded, rng = ref.load("tiny"), np.random.default_rng(0)
    photos = [rng.integers(0, 255, (60, 200, 3), np.uint8), rng.integers(0, 255, (50, 50, 3), np.uint8)]
    crops = ref.config.CROPS["transformers"]._replace(min_crop=20)
    seen = [ref.preprocess(one, crops, size=loaded.vision.config.image) for one in photos]
    images = ref.Images(loaded.vision, np.concatenate([one.pixels for one in seen]))
    soft, ids = [loaded.params.config.vocabulary] * 4, [2, 30]
    for number in range(len(images.pixels)):
        ids += [*soft, 40 + number]
    return loaded, ids, images, [Photo(one, s.boxes) for one, s in zip(photos, seen, strict=True)]


def without_attention(explored):
    """Find a room in which the facts fit, but no layer's attention."""
    for room in range(60_000, 10_000, -250):
        if not packed(explored, room)["attention"]["layers"]:
            return room
    raise AssertionError("attention always fits")
