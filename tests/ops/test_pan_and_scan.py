"""Pan & Scan: the boxes against a naive oracle and two witnesses, their laws, and the table of the specification."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support import naive_images

from ref.ops.pan_and_scan import count_crops, crop_boxes, cut

sides = st.one_of(st.integers(1, 40), st.integers(1, 5000), st.sampled_from([255, 256, 257, 511, 512, 896, 1000, 1200]))
ratios = st.one_of(st.sampled_from([1.2, 1.5, 1.0, 0.3, 2.5]), st.integers(100, 400).map(lambda n: n / 100))
crop_sizes = st.one_of(st.just(256), st.integers(1, 400))
limits = st.one_of(st.just(4), st.integers(1, 20), st.just(448))


def boxes(width, height, min_ratio=1.2, min_crop=256, max_crops=4, clip=True):
    return crop_boxes(height, width, min_ratio, min_crop, max_crops, clip).tolist()


def widths(width, height):
    """Lengths of the strips along the longer side."""
    found = boxes(width, height)
    return [box[3] - box[1] if width >= height else box[2] - box[0] for box in found]


@pytest.mark.parametrize(
    ("width", "height", "strips"),
    [
        (896, 896, []), (1000, 834, []), (1000, 833, [500, 500]), (1200, 1000, [600, 600]), (1199, 1000, []),
        (1024, 512, [512, 512]), (1920, 1080, [960, 960]), (640, 480, [320, 320]), (511, 400, [256, 255]),
        (513, 300, [257, 256]), (600, 300, [300, 300]), (1001, 400, [334, 334, 333]), (1003, 300, [335, 335, 333]),
        (2500, 1000, [834, 834, 832]), (2499, 1000, [1250, 1249]), (3000, 500, [750] * 4), (5000, 500, [1250] * 4),
        (769, 256, [257, 257, 255]), (767, 256, [384, 383]), (4097, 257, [1025, 1025, 1025, 1022]),
        (257, 4097, [1025, 1025, 1025, 1022]), (600, 255, []), (255, 600, []), (5000, 255, []), (300, 255, []),
    ],
)  # fmt: skip
def test_the_table_of_the_specification(width, height, strips):
    assert widths(width, height) == strips
    assert widths(height, width) == strips
    ends = np.cumsum([0, *strips]).tolist()
    if width >= height:
        assert boxes(width, height) == [[0, a, height, b] for a, b in pairwise(ends)]
    else:
        assert boxes(width, height) == [[a, 0, b, width] for a, b in pairwise(ends)]


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1000, 833), (1200, 1000), (511, 400), (1499, 1000)])
def test_no_crops_below_one_and_a_half_under_the_policy_of_gemma_pytorch(width, height):
    assert boxes(width, height, 1.5, clip=False) == []


@given(width=sides, height=sides, min_ratio=ratios, min_crop=crop_sizes, max_crops=limits, clip=st.booleans())
@example(width=5, height=1, min_ratio=1.2, min_crop=1, max_crops=4, clip=True)
@example(width=5, height=1, min_ratio=1.2, min_crop=1, max_crops=4, clip=False)
@example(width=1223, height=33, min_ratio=1.2, min_crop=32, max_crops=448, clip=True)
@example(width=1, height=1, min_ratio=0.3, min_crop=1, max_crops=4, clip=True)
def test_equals_the_naive_oracle(width, height, min_ratio, min_crop, max_crops, clip):
    oracle = naive_images.crop_boxes(height, width, min_ratio, min_crop, max_crops, "clip" if clip else "pad")
    assert boxes(width, height, min_ratio, min_crop, max_crops, clip) == oracle


@given(width=sides, height=sides, min_ratio=ratios, min_crop=crop_sizes, max_crops=limits)
def test_laws_of_the_boxes(width, height, min_ratio, min_crop, max_crops):
    assume(max_crops >= 2)
    assume(min_ratio > 1)
    settings = min_ratio, min_crop, max_crops
    clipped, nominal = (np.array(boxes(width, height, *settings, clip)).reshape(-1, 4) for clip in (True, False))
    assert len(clipped) == 0 or 2 <= len(clipped) <= len(nominal) <= max_crops
    assert (len(clipped) == 0) == (len(nominal) == 0)
    if not len(clipped):
        return
    along = 1 if width >= height else 0
    side, across = (width, height) if along else (height, width)
    # only the longer side is cut; in reading order, disjoint, the union is the image
    assert (clipped[:, 1 - along] == 0).all()
    assert (clipped[:, 3 - along] == across).all()
    assert clipped[0, along] == 0
    np.testing.assert_array_equal(clipped[1:, along], clipped[:-1, 2 + along])
    assert clipped[-1, 2 + along] == side
    assert (clipped[:, 2 + along] > clipped[:, along]).all()
    # nominal sizes are equal, and the last reaches past the edge by less than there are strips
    sizes = nominal[:, 2 + along] - nominal[:, along]
    assert (sizes == sizes[0]).all()
    assert min(sizes[0], across) >= min_crop
    assert 0 <= nominal[-1, 2 + along] - side < len(nominal)
    # pad equals clip exactly when nothing overruns
    assert (nominal.tolist() == clipped.tolist()) == (nominal[-1, 2 + along] == side)


@given(width=sides, height=sides, min_ratio=ratios, min_crop=crop_sizes, max_crops=limits, clip=st.booleans())
def test_transposing_the_image_transposes_the_boxes(width, height, min_ratio, min_crop, max_crops, clip):
    assume(width != height)  # a square is cut along its width
    settings = min_ratio, min_crop, max_crops, clip
    assert boxes(height, width, *settings) == [[x0, y0, x1, y1] for y0, x0, y1, x1 in boxes(width, height, *settings)]


@given(longer=st.integers(1, 2**24), shorter=st.integers(1, 2**24))
@example(longer=1200, shorter=1000)
@example(longer=1500, shorter=1000)
@example(longer=16_777_211, shorter=11_184_808)  # nearest below and above 1.5
@example(longer=16_777_213, shorter=11_184_808)
def test_the_float_ratio_agrees_with_integers(longer, shorter):
    longer, shorter = max(longer, shorter), min(longer, shorter)
    assert (count_crops(longer, shorter, 1.5, 1, 4) > 0) == (2 * longer >= 3 * shorter)
    assert (count_crops(longer, shorter, 1.2, 1, 4) > 0) == (5 * longer >= 6 * shorter)


@given(longer=st.integers(1, 2**24), shorter=st.integers(1, 2**24), max_crops=st.integers(1, 1000))
@example(longer=2500, shorter=1000, max_crops=4)
def test_integer_quotients_agree_with_the_floats_of_others(longer, shorter, max_crops):
    longer, shorter = max(longer, shorter), min(longer, shorter)
    count = min(max_crops, max(2, min(int(np.floor(longer / 3)), int(np.floor(longer / shorter + 0.5)))))
    fits = min(int(np.ceil(longer / count)), shorter) >= 3
    assert count_crops(longer, shorter, 0.1, 3, max_crops) == (count if fits else 0)


@given(width=st.integers(1, 60), height=st.integers(1, 60), min_crop=st.integers(1, 20), max_crops=st.integers(1, 20))
def test_clip_then_join_rebuilds_the_image_and_pad_adds_black(width, height, min_crop, max_crops):
    image = np.arange(1, height * width * 3 + 1).reshape(height, width, 3)
    clipped, nominal = (boxes(width, height, 1.2, min_crop, max_crops, clip) for clip in (True, False))
    assume(clipped)
    axis = 1 if width >= height else 0
    np.testing.assert_array_equal(np.concatenate([cut(image, box) for box in clipped], axis), image)
    padded = np.concatenate([cut(image, box) for box in nominal], axis)
    np.testing.assert_array_equal(padded[:height, :width], image)
    assert padded[height:].sum() == padded[:, width:].sum() == 0


def test_a_strip_wholly_past_the_edge():
    """5 pixels in 4 strips of 2: clipped the fourth is empty and dropped, unclipped it is black."""
    assert boxes(5, 1, min_crop=1) == [[0, 0, 1, 2], [0, 2, 1, 4], [0, 4, 1, 5]]
    nominal = boxes(5, 1, min_crop=1, clip=False)
    assert nominal[3] == [0, 6, 1, 8]
    image = np.full((1, 5, 3), 9, np.uint8)
    assert [cut(image, box).sum() for box in nominal] == [54, 54, 27, 0]
    assert len(boxes(1223, 33, min_crop=32, max_crops=448)) == 36
    assert len(boxes(1223, 33, min_crop=32, max_crops=448, clip=False)) == 37


def test_at_most_one_crop_is_the_whole_image_again():
    assert boxes(2500, 1000, max_crops=1) == [[0, 0, 1000, 2500]]
    assert boxes(1000, 2500, max_crops=1) == [[0, 0, 2500, 1000]]


def test_a_ratio_below_one_cuts_squares_along_their_width():
    assert boxes(640, 640, 0.3, 32, 448) == [[0, 0, 640, 320], [0, 320, 640, 640]]


@pytest.mark.parametrize(
    "settings",
    [(0, 9, 1.2, 1, 4), (9, 0, 1.2, 1, 4), (9, 9, 1.2, 0, 4), (9, 9, 1.2, 1, 0), (9, 9, 0.0, 1, 4), (9, 9, -1.0, 1, 4),
     (9, 9, np.nan, 1, 4), (9, 9, np.inf, 1, 4)],
)  # fmt: skip
def test_refusals(settings):
    with pytest.raises(ValueError, match="crops: wanted sides, min_crop, max_crops of at least 1"):
        crop_boxes(*settings, True)


def test_boxes_of_no_crops_have_four_columns_too():
    found = crop_boxes(896, 896, 1.2, 256, 4, True)
    assert (found.shape, found.dtype) == ((0, 4), np.int64)


@pytest.mark.witness
@given(width=sides, height=sides, min_ratio=ratios, min_crop=crop_sizes, max_crops=limits)
@example(width=5, height=1, min_ratio=1.2, min_crop=1, max_crops=4)
def test_equals_transformers(width, height, min_ratio, min_crop, max_crops):
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    assume(width * height < 3_000_000)
    place = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    crops = Gemma3ImageProcessorPil().pan_and_scan(place, min_crop, max_crops, min_ratio)
    theirs = [[*crop.min((1, 2)), *(crop.max((1, 2)) + 1)] for crop in crops if crop.size]  # it keeps empty ones
    assert boxes(width, height, min_ratio, min_crop, max_crops) == theirs
