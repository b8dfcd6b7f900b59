"""Arrays as images: what becomes of their values and layouts, and what is refused."""

import numpy as np
import pytest
from support.pictures import RGB, WIDE

from ref.errors import BadInput
from ref.prompt.image_file import to_levels
from ref.prompt.images import read_image


def test_arrays_of_bytes_keep_their_values_in_either_layout():
    for source, layout in ((RGB, None), (RGB, "HWC"), (RGB.transpose(2, 0, 1), None), (RGB.transpose(2, 0, 1), "CHW")):
        ours = read_image(source, layout=layout)
        np.testing.assert_array_equal(ours, RGB)
        assert ours.flags.c_contiguous
        assert not np.shares_memory(ours, RGB)
    np.testing.assert_array_equal(read_image(RGB[..., 0]), RGB[..., :1].repeat(3, axis=-1))
    np.testing.assert_array_equal(read_image(RGB[::-1, ::2]), RGB[::-1, ::2])
    three = RGB[:3]
    np.testing.assert_array_equal(read_image(three, layout="HWC"), three)
    np.testing.assert_array_equal(read_image(three, layout="CHW"), three.transpose(1, 2, 0))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_the_nearest_level_of_the_range_given(dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    unit = (levels / 255).astype(dtype)
    if dtype is not np.float16:
        np.testing.assert_array_equal(read_image(unit, value_range="0..1")[..., 0], levels)
        np.testing.assert_array_equal(read_image(2 * unit - 1, value_range="-1..1")[..., 0], levels)
    np.testing.assert_array_equal(read_image(levels.astype(dtype), value_range="0..255")[..., 0], levels)
    assert read_image(np.array([[0.25, 0.75, 0.5]], dtype), value_range="0..255")[0, :, 0].tolist() == [0, 1, 0]


def test_16_bit_arrays_are_scaled():
    np.testing.assert_array_equal(read_image(WIDE)[..., 0], np.rint(WIDE / 257))
    wide = np.dstack([WIDE] * 3)
    np.testing.assert_array_equal(read_image(wide), to_levels(wide))


BAD_ARRAYS = [
    (RGB[:3], {}, r"layout='HWC' or 'CHW' beside it, got \[3, 5, 3\], which can be either"),
    (np.zeros((3, 3, 3), np.uint8), {}, r"got \[3, 3, 3\], which can be either"),
    (RGB, {"layout": "CHW"}, r"wanted CHW with 3 channels, or \[Y, X\], got \[6, 5, 3\]"),
    (RGB, {"layout": "NHWC"}, "layout: wanted HWC or CHW, got 'NHWC'"),
    (np.zeros((6, 5, 4), np.uint8), {}, r"HWC or CHW with 3 channels, or \[Y, X\], got \[6, 5, 4\]"),
    (np.zeros((1, 6, 5, 3), np.uint8), {}, r"got \[1, 6, 5, 3\]"),
    (np.zeros(3, np.uint8), {}, r"got \[3\]"),
    (np.uint8(3)[...], {}, r"got \[\]"),
    (np.zeros((0, 5, 3), np.uint8), {}, "sides of at least 1 pixel, got 5 x 0"),
    (np.zeros((6, 0, 3), np.uint8), {}, "sides of at least 1 pixel, got 0 x 6"),
    (np.broadcast_to(np.uint8(0), (8001, 8001, 3)), {}, "at most 64,000,000 pixels, got 8001 x 8001"),
    (RGB.astype(np.int64), {}, "uint8, uint16 or float values, got int64"),
    (RGB > 9, {}, "uint8, uint16 or float values, got bool"),
    (RGB.astype(complex), {}, "got complex128"),
    (RGB.astype(object), {}, "got object"),
    (RGB, {"value_range": "0..255"}, "float values beside value_range, got uint8"),
    (RGB / 255, {}, r"value_range: wanted one of 0..1 0..255 -1..1 beside a float array, got None"),
    (RGB / 255, {"value_range": "0-1"}, "got '0-1'"),
    (RGB / 1.0, {"value_range": "0..1"}, r"values in 0..1, got .* such\)"),
    (RGB / 255 - 0.5, {"value_range": "0..1"}, "values in 0..1, got -"),
    (np.full((2, 2), np.nan), {"value_range": "0..1"}, r"values in 0..1, got nan \(4 such\)"),
    (np.full((2, 2), np.inf), {"value_range": "-1..1"}, r"values in -1..1, got inf \(4 such\)"),
    (np.full((2, 2), 255.01), {"value_range": "0..255"}, r"values in 0..255, got 255.01 \(4 such\)"),
]


@pytest.mark.parametrize(("array", "settings", "match"), BAD_ARRAYS)
def test_bad_arrays_are_refused_in_one_line(array, settings, match):
    with pytest.raises(BadInput, match=match) as refused:
        read_image(array, **settings)
    assert "\n" not in str(refused.value)
