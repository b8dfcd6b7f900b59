"""What becomes of every kind of image file: its first frame, its colours, its orientation, its 16 bits."""

import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.pictures import FILES, RGB, WIDE, file_of, palette, tiff

from ref.prompt.image_file import to_levels
from ref.prompt.images import read_image


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_what_pillow_converts_its_first_frame_to(name, tmp_path):
    with Image.open(BytesIO(FILES[name])) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.array(image.convert("RGB"))
    ours = read_image(FILES[name])
    assert (ours.dtype, ours.shape) == (np.uint8, (6, 5, 3))
    assert ours.flags.c_contiguous
    assert ours.flags.writeable
    np.testing.assert_array_equal(ours, expected)
    (tmp_path / "image").write_bytes(FILES[name])  # no ending: the content tells
    for source in (tmp_path / "image", str(tmp_path / "image"), bytearray(FILES[name]), memoryview(FILES[name])):
        np.testing.assert_array_equal(read_image(source), ours)


@pytest.mark.witness
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_what_transformers_loads(name, tmp_path):
    from transformers.image_utils import load_image

    (tmp_path / "image.bin").write_bytes(FILES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.array(load_image(str(tmp_path / "image.bin")))
    np.testing.assert_array_equal(read_image(FILES[name]), theirs)


def test_hidden_colours_come_out():
    """Transparency is dropped: what was invisible is seen. Known values, not Pillow's."""
    image = np.zeros((1, 3, 4), np.uint8)
    image[0, :, :3] = [[255, 0, 0], [0, 255, 0], [9, 9, 9]]
    image[0, :, 3] = [255, 0, 128]
    assert read_image(file_of(Image.fromarray(image))).tolist() == [[[255, 0, 0], [0, 255, 0], [9, 9, 9]]]
    clear, settings = palette(transparency=bytes([0] * 4))
    assert read_image(file_of(clear, **settings))[0, :3].tolist() == [[200, 10, 20], [30, 220, 40], [50, 60, 230]]


@pytest.mark.witness
def test_the_image_processor_of_transformers_lays_pil_images_over_white_instead():
    from transformers.image_transforms import convert_to_rgb

    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    assert convert_to_rgb(clear, return_numpy=True)[0, 0].tolist() == [255, 255, 255]
    assert read_image(file_of(clear))[0, 0].tolist() == [10, 20, 30]


def with_orientation(value, kind):
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = value
    settings = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    return file_of(image, kind, exif=exif, **settings)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", range(10))
def test_exif_orientation_is_applied_once(kind, value):
    data = with_orientation(value, kind)
    with Image.open(BytesIO(data)) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(data), expected)
    assert read_image(data).shape == ((5, 6, 3) if 5 <= value <= 8 else (6, 5, 3))
    assert read_image(data).flags.c_contiguous


def test_orientation_six_is_a_quarter_turn_clockwise():
    assert read_image(with_orientation(6, "PNG"))[0].tolist() == RGB[::-1, 0].tolist()


def test_damaged_exif_is_no_reason_to_refuse():
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 24):
        data = file_of(RGB, "JPEG", exif=exif)
        assert read_image(data).shape == (6, 5, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    image = Image.fromarray(WIDE) if kind != "PPM" else Image.fromarray(WIDE.astype(np.int32))
    data = file_of(image, kind)
    grey = read_image(data)
    assert (grey == grey[..., :1]).all()
    np.testing.assert_array_equal(grey[..., 0], np.rint(WIDE * (255 / 65535)))
    with Image.open(BytesIO(data)) as opened:  # the trap: nearly all of it is white
        assert (np.array(opened.convert("RGB")) == 255).mean() > 0.9


@pytest.mark.parametrize(("photometric", "black"), [(1, 0), (0, 65_535)])
def test_16_bit_tiff_may_count_down_from_white(photometric, black):
    levels = read_image(tiff(np.array([[black, 65_535 - black, 32_768]]), 16, photometric))[0, :, 0]
    assert levels.tolist() == [0, 255, 128 if photometric else 127]


def test_16_bit_grey_is_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(file_of(Image.fromarray(WIDE), exif=exif)).shape == (5, 6, 3)


def test_every_16_bit_value_goes_to_the_nearest_level():
    wide = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_levels(wide), np.rint(np.arange(65536) * 255 / 65535))
    assert (to_levels(wide.astype(">u2")) == to_levels(wide)).all()
