"""Resizing levels: Pillow's to the bit; laws of the weights; what is refused."""

import numpy as np
import PIL
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import config as numba_config
from PIL import Image
from support import naive_images
from support.resized import kinds, make, sides
from support.strategies import seeds
from support.threads import TWO_THREADS, threads

from ref.ops.resize import (
    LONGEST_SIDE,
    resize_float,
    resize_float_jit,
    resize_pillow,
    resize_pillow_jit,
    rows_first,
    taps_of,
    triangle_weights,
)

BOTH = pytest.mark.parametrize("resize", [resize_pillow, resize_pillow_jit], ids=["definition", "kernel"])
VERSION = tuple(int(part) for part in PIL.__version__.split(".")[:2])


def pillow(image, height, width):
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def order_here(image, height, width):
    """What `first` has to be to follow the Pillow that is installed."""
    tall = (12, 2) <= VERSION < (13, 0) and image.shape[0] > 100 * image.shape[1] and height < image.shape[0]
    return None if VERSION >= (13, 0) else "rows" if tall else "columns"


def assert_is_pillow(image, height, width, resizes=(resize_pillow, resize_pillow_jit)):
    for resize in resizes:
        ours = resize(image, height, width, order_here(image, height, width))
        assert ours.dtype == np.uint8
        np.testing.assert_array_equal(ours, pillow(image, height, width))


@given(Y=sides, X=sides, height=sides, width=sides, kind=kinds, seed=seeds)
@example(Y=9, X=3, height=3, width=2, kind="random", seed=0)  # rows first since Pillow 13
@example(Y=30, X=20, height=10, width=10, kind="random", seed=0)  # shrinks by 20 and 10: not more than twice
@example(Y=31, X=20, height=10, width=10, kind="random", seed=0)
def test_equals_pillow(Y, X, height, width, kind, seed):
    assert_is_pillow(make(kind, Y, X, seed), height, width)


@pytest.mark.parametrize(
    ("Y", "X", "height", "width"),
    [
        (1, 1, 896, 896), (1, 5, 896, 896), (5, 1, 896, 896), (3, 2, 896, 896), (896, 896, 896, 896),
        (896, 500, 896, 896), (500, 896, 896, 896), (427, 640, 896, 896), (1411, 1411, 896, 896),
        (1920, 1080, 896, 896), (1080, 1920, 896, 896), (897, 895, 896, 896), (4000, 30, 896, 896),
        (30, 4000, 896, 896), (1000, 834, 896, 896), (1, 100_000, 1, 3), (100_000, 1, 3, 1), (3, 100_001, 7, 9),
        (600, 400, 1, 1), (2, 3, 700, 1), (3, 2, 1, 700),
    ],
)  # fmt: skip
@pytest.mark.skipif(numba_config.DISABLE_JIT, reason="minutes as plain Python; the sizes above are small")
def test_equals_pillow_at_real_and_extreme_sizes(Y, X, height, width):
    for kind in ("random", "black and white", "white"):
        assert_is_pillow(make(kind, Y, X, 3), height, width, [resize_pillow_jit])


@pytest.mark.skipif(numba_config.DISABLE_JIT, reason="a side of 2^24 as plain Python")
def test_equals_pillow_where_every_weight_rounds_to_nothing():
    image = np.full((1, LONGEST_SIDE, 3), 255, np.uint8)
    assert resize_pillow_jit(image, 1, 1).max() == pillow(image, 1, 1).max() == 0


@pytest.mark.parametrize("shape", [(1, 508_400, 3), (508_400, 1, 3)])
@pytest.mark.skipif(numba_config.DISABLE_JIT, reason="half a million pixels as plain Python")
def test_white_stays_white_where_the_rounded_weights_sum_to_more_than_one(shape):
    image = np.full(shape, 255, np.uint8)
    assert np.trunc(0.5 + triangle_weights(508_400, 1) * 2**22).sum() > 2**22 * 255.5 / 255
    assert_is_pillow(image, 1, 1)
    assert resize_pillow_jit(image, 1, 1).tolist() == [[[255] * 3]]


@given(Y=sides, X=sides, height=sides, width=sides, seed=seeds)
def test_kernel_equals_definition_in_either_order(Y, X, height, width, seed):
    image = make("random", Y, X, seed)
    for first in ("rows", "columns", None):
        kernel, definition = (resize(image, height, width, first) for resize in (resize_pillow_jit, resize_pillow))
        np.testing.assert_array_equal(kernel, definition)
        chosen = "rows" if rows_first((Y, X), (height, width)) else "columns"
        if first is None:
            np.testing.assert_array_equal(kernel, resize_pillow(image, height, width, chosen))


def test_the_order_of_passes_shows_by_a_level_at_most():
    image = make("random", 190, 100, 5)
    rows, columns = (resize_pillow_jit(image, 60, 60, first) for first in ("rows", "columns"))
    apart = np.abs(rows.astype(int) - columns)
    assert apart.max() == 1
    assert 0.02 < apart.mean() < 0.5


@given(Y=st.integers(1, 7), X=st.integers(1, 7), height=st.integers(1, 7), width=st.integers(1, 7), seed=seeds)
def test_equals_the_oracle_in_fractions(Y, X, height, width, seed):
    image = make("random", Y, X, seed)
    exact = np.array(naive_images.resize("float", image.tolist(), height, width))
    for resize in (resize_float, resize_float_jit):
        np.testing.assert_allclose(resize(image.astype(np.float64), height, width), exact, rtol=1e-14, atol=1e-12)
    levels = naive_images.resize("pillow", image.tolist(), height, width)
    np.testing.assert_array_equal(resize_pillow(image, height, width), levels)


@given(inputs=st.integers(1, 400), outputs=st.integers(1, 400))
def test_weights_share_everything_and_are_symmetric(inputs, outputs):
    weights = triangle_weights(inputs, outputs)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-12)
    taps = taps_of(inputs, outputs)
    dense = np.zeros((outputs, inputs))
    for o in range(outputs):
        run = slice(taps.first[o], taps.first[o] + taps.count[o])
        dense[o, run] = taps.weights[o, : taps.count[o]]
    np.testing.assert_array_equal(dense, weights)  # to the bit, as what Pillow rounds


def test_what_the_triangle_has_outside_is_shared_by_what_it_has_inside():
    """7 pixels to 3: the first triangle stands at 7/6, reaches 7/3 to each side, and is 5/7, 6/7, 3/7 inside."""
    np.testing.assert_allclose(triangle_weights(7, 3)[0], np.array([5, 6, 3, 0, 0, 0, 0]) / 14, atol=1e-15)
    assert triangle_weights(1, 3).tolist() == [[1], [1], [1]]
    assert triangle_weights(5, 5).tolist() == np.eye(5).tolist()


@given(Y=sides, X=sides, height=sides, width=sides, seed=seeds)
def test_bytes_are_within_a_level_of_the_floats(Y, X, height, width, seed):
    image = make("random", Y, X, seed)
    apart = resize_pillow_jit(image, height, width) - resize_float_jit(image, height, width)
    assert np.abs(apart).max() <= 1 + 0.01


@pytest.mark.parametrize("resize", [resize_pillow, resize_pillow_jit, resize_float, resize_float_jit])
def test_same_size_is_a_copy_and_any_strides_and_channels_will_do(resize):
    image = make("random", 6, 8, 2)
    same = resize(image, 6, 8)
    assert same is not image
    assert not np.shares_memory(same, image)
    np.testing.assert_array_equal(same, image)
    strided = np.asfortranarray(image)[::2, ::-1]
    np.testing.assert_array_equal(resize(strided, 5, 5), resize(strided.copy(), 5, 5))
    five = np.concatenate([image, image[..., :2]], axis=-1)
    np.testing.assert_array_equal(resize(five, 5, 3)[..., :3], resize(image, 5, 3))
    assert image.flags.writeable
    image.flags.writeable = False
    resize(image, 5, 3)


@TWO_THREADS
def test_threads_do_not_show():
    image = make("random", 500, 700, 2)
    runs = []
    for count in (1, 2):
        with threads(count):
            runs.append([resize(image, 300, 333) for resize in (resize_pillow_jit, resize_float_jit)])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)


GOOD = make("random", 4, 5, 0)


@pytest.mark.parametrize("resize", [resize_pillow, resize_pillow_jit, resize_float, resize_float_jit])
@pytest.mark.parametrize(
    ("image", "height", "width", "match"),
    [
        (GOOD[0], 2, 2, r"wanted \[Y, X, C\]"),
        (GOOD.astype(np.int64), 2, 2, r"got .* int64"),
        (GOOD, 0, 2, "wanted sides of 1 to"),
        (GOOD, 2, -1, "wanted sides of 1 to"),
        (GOOD, 2, LONGEST_SIDE + 1, "wanted sides of 1 to"),
        (GOOD[:0], 2, 2, "wanted sides of 1 to"),
        (GOOD[:, :0], 2, 2, "wanted sides of 1 to"),
    ],
)
def test_refusals(resize, image, height, width, match):
    with pytest.raises(ValueError, match=match):
        resize(image, height, width)


@BOTH
def test_floats_are_no_levels_and_the_order_has_two_names(resize):
    with pytest.raises(ValueError, match=r"got .* float32"):
        resize(GOOD.astype(np.float32), 2, 2)
    with pytest.raises(ValueError, match="first: wanted rows, columns or None"):
        resize(GOOD, 2, 2, "diagonals")
