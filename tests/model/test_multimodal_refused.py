"""Images and prompts that do not go together are refused."""

import numpy as np
import pytest
from support.multimodal import SOFT, WIDE, image, images, run
from support.tiny import TINY, params, vision

from ref.config import VISION
from ref.errors import BadInput
from ref.model.cache import empty_cache
from ref.model.generate import generate
from ref.model.inputs import SoftTokens
from ref.model.multimodal import Images, embed_images, forward_images
from ref.model.text import forward
from ref.model.vision import encode_images
from ref.weights.synthetic import synthetic_vision


@pytest.mark.parametrize(
    ("ids", "count", "message"),
    [
        ([2, 3], 1, "image placeholders: wanted 4 of id 97, for 1 images and crops, got 0"),
        ([2, *[97] * 4], 2, "wanted 8 of id 97, for 2 images and crops, got 4"),
        ([2, 97, 97, 3, 97, 97], 1, "image placeholders: wanted runs of 4, got a run of 2"),
        ([2, *[97] * 4, 98], 1, "token id: wanted 0 <= id < 97, got 98"),
    ],
)
def test_prompts_unlike_their_images_are_refused(ids, count, message):
    with pytest.raises(BadInput, match=message):
        run([ids], images(count=count))
    with pytest.raises(BadInput, match=message):
        generate(params(), [ids], 1, images=images(count=count))


def test_a_placeholder_without_an_image_is_refused():
    with pytest.raises(BadInput, match="token id"):
        generate(params(), [[2, *image()]], 1)


@pytest.mark.parametrize("ids", [[2, 3], [[2], [3, 4]], [[[2]]], None])
def test_ids_of_another_shape_are_refused(ids):
    with pytest.raises(BadInput, match="token ids: wanted"):
        forward_images(params(), images(), ids, WIDE)


def test_a_block_longer_than_the_context_is_refused():
    short = params()._replace(config=TINY._replace(max_positions=4))
    with pytest.raises(BadInput, match="token ids: wanted at most the context, 4, got 5"):
        forward_images(short, images(), [[2, *image()]], WIDE)


def test_a_block_split_between_passes_is_refused_and_the_cache_stays_usable():
    store = empty_cache(TINY, np.zeros(1), 20, np.float64)
    soft = embed_images(images(), [[2, *image()]], TINY, WIDE)
    part = SoftTokens(soft.rows[:, :2], soft.places[:, :3])
    _, store = forward(params(), [[2, SOFT, SOFT]], WIDE, store, soft=part)
    rest = SoftTokens(soft.rows[:, 2:], np.array([[True, True, False]]))
    with pytest.raises(BadInput, match="image block: wanted to lie in one pass"):
        forward(params(), [[SOFT, SOFT, 3]], WIDE, store, soft=rest)
    forward(params(), [[3]], WIDE, store)


def test_soft_tokens_of_another_shape_are_refused():
    soft = embed_images(images(), [[2, *image()]], TINY, WIDE)
    with pytest.raises(BadInput, match=r"places of soft tokens: wanted shape \[1, 6\]"):
        forward(params(), [[2, *image(), 3]], WIDE, soft=soft)
    with pytest.raises(BadInput, match="soft tokens: wanted width 36"):
        forward(params(), [[2, *image()]], WIDE, soft=soft._replace(rows=soft.rows[..., :-1]))
    with pytest.raises(BadInput, match="places of soft tokens: wanted 8"):
        forward(params(), [[2, *image()]], WIDE, soft=soft._replace(rows=np.repeat(soft.rows, 2, axis=0)))


def test_a_projector_to_another_width_is_refused():
    other = synthetic_vision(VISION["tiny"], TINY.width + 1, 0, bfloat16=False)
    with pytest.raises(BadInput, match="projector: wanted width 36, as the text model's, got 37"):
        run([[2, *image()]], Images(other, images().pixels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[0], r"shape: wanted \[images, 3, 40, 40\], got \[3, 40, 40\]"),
        (lambda p: p.transpose(0, 2, 3, 1), r"shape: wanted \[images, 3, 40, 40\], got \[1, 40, 40, 3\]"),
        (lambda p: p[:0], "shape"),
        (lambda p: (p * 127).astype(np.int16), "dtype: wanted floats"),
        (lambda p: p * 3, r"values: wanted finite numbers in \[-1, 1\]"),
        (lambda p: np.where(p > 0.9, np.nan, p), "values: wanted finite numbers"),
    ],
)
def test_pixels_that_are_none_are_refused(change, message):
    with pytest.raises(BadInput, match=message):
        encode_images(vision("tiny"), change(images().pixels), WIDE)
