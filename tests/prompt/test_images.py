"""Images in: what becomes of every kind of file and array, the pixels against three witnesses, and all refusals."""

import hashlib
import json
import os
import warnings
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support.command_line import command
from support.refusing import read_or_refused

from ref.config import CROPS
from ref.errors import BadInput
from ref.golden_files.files import golden_root
from ref.golden_files.sampled import sample_places
from ref.ops.resize import resize_float, resize_pillow_jit
from ref.prompt import image_file
from ref.prompt.image_file import to_levels
from ref.prompt.images import find_boxes, preprocess, read_image, scale_floats, scale_levels

SKIMAGE = find_spec("skimage")
PHOTOGRAPHS = Path(SKIMAGE.origin).parent / "data" if SKIMAGE and SKIMAGE.origin else None
GOLDEN = [(path.stem, row) for path in sorted((golden_root() / "images").glob("*.json"))
          for row in json.loads(path.read_text())["rows"]]  # fmt: skip
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (6, 5, 3), dtype=np.uint8)
FRAMES = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1]), Image.fromarray(RGB[:, ::-1])]}


def file_of(image, kind="PNG", **settings):
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **settings)
    return file.getvalue()


def digest(value):
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()


# --- photographs -----------------------------------------------------------------------------------------------------


def picture(row):
    whole = read_image(PHOTOGRAPHS / row["file"])
    assert digest(whole) == row["photograph_sha256"], "the photograph is another, or was decoded otherwise"
    y0, x0, y1, x1 = row["box"] or (0, 0, *whole.shape[:2])
    image = np.ascontiguousarray(whole[y0:y1, x0:x1].repeat(row["repeat"], axis=0).repeat(row["repeat"], axis=1))
    assert (digest(image), image.shape) == (row["sha256"], (row["height"], row["width"], 3))
    return image


@pytest.mark.parametrize(("witness", "row"), GOLDEN, ids=[f"{w}-{r['picture']}-{r['crops']}" for w, r in GOLDEN])
def test_photographs_become_the_pixels_of_the_witness(witness, row):
    pixels, boxes = preprocess(picture(row), CROPS[row["crops"]] if row["crops"] else None, resize=row["resize"])
    assert boxes.tolist() == row["boxes"]
    assert (list(pixels.shape), pixels.dtype) == (row["shape"], np.float32)
    if row["levels_sha256"]:
        assert digest(np.rint((pixels.astype(np.float64) + 1) * 127.5).astype(np.uint8)) == row["levels_sha256"]
    if row["pixels_sha256"]:
        assert digest(pixels) == row["pixels_sha256"]
    samples = pixels.ravel()[sample_places(pixels.size, len(row["samples"]))]
    assert np.abs(samples - np.array(row["samples"])).max() <= row["tolerance"]["atol"]


def test_the_goldens_cover_what_they_should():
    shapes = {(row["picture"], row["crops"]) for witness, row in GOLDEN if witness == "transformers"}
    for name in ("landscape", "portrait", "square", "extreme", "tiny"):
        assert {(name, None), (name, "transformers")} <= shapes
    assert {witness for witness, _ in GOLDEN} == {"transformers", "gemma_pytorch", "gemma"}
    assert any(len(row["boxes"]) == 4 for _, row in GOLDEN)
    assert any(box[3] > row["width"] for _, row in GOLDEN for box in row["boxes"])  # one past the edge


@pytest.mark.witness
def test_transformers_makes_these_pixels_again():
    import transformers
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    assert transformers.__version__ == json.loads((golden_root() / "images/transformers.json").read_text())["source"][
        "version"]  # fmt: skip
    hub = {"size": {"height": 896, "width": 896}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    scan = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 256, "pan_and_scan_max_num_crops": 4,
            "pan_and_scan_min_ratio_to_activate": 1.2}  # fmt: skip
    for height, width in ((300, 1001), (1001, 300), (1900, 1000), (5, 7)):
        image = RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)
        theirs = Gemma3ImageProcessorPil(**hub)(Image.fromarray(image), return_tensors="np", **scan)["pixel_values"]
        np.testing.assert_array_equal(preprocess(image, CROPS["transformers"]).pixels, theirs)


# --- preprocess ------------------------------------------------------------------------------------------------------


def test_the_whole_image_comes_first_then_its_crops_in_reading_order():
    image = RANDOM.integers(0, 256, (20, 65, 3), dtype=np.uint8)
    crops = CROPS["transformers"]._replace(min_crop=10)
    pixels, boxes = preprocess(image, crops, size=28)
    assert boxes.tolist() == [[0, 0, 20, 22], [0, 22, 20, 44], [0, 44, 20, 65]]
    views = [image, image[:, :22], image[:, 22:44], image[:, 44:]]
    for seen, view in zip(pixels, views, strict=True):
        np.testing.assert_array_equal(seen, scale_levels(resize_pillow_jit(view, 28, 28)).transpose(2, 0, 1))
    padded, nominal = preprocess(image, crops._replace(past_edge="pad"), size=28)
    assert nominal.tolist()[2] == [0, 44, 20, 66]
    last = np.concatenate([image[:, 44:], np.zeros((20, 1, 3), np.uint8)], axis=1)
    np.testing.assert_array_equal(padded[3], scale_levels(resize_pillow_jit(last, 28, 28)).transpose(2, 0, 1))
    np.testing.assert_array_equal(padded[:3], pixels[:3])
    assert preprocess(image, size=28).pixels.shape == (1, 3, 28, 28)
    assert preprocess(image, size=28).boxes.shape == (0, 4)


def test_the_three_ways_to_resize():
    image = RANDOM.integers(0, 256, (190, 100, 3), dtype=np.uint8)  # a portrait: the order of passes shows
    new, old, exact = (preprocess(image, resize=way, size=60).pixels[0] for way in ("pillow", "pillow12.1", "float"))
    np.testing.assert_array_equal(new, scale_levels(resize_pillow_jit(image, 60, 60, "rows")).transpose(2, 0, 1))
    np.testing.assert_array_equal(old, scale_levels(resize_pillow_jit(image, 60, 60, "columns")).transpose(2, 0, 1))
    wide = resize_float(image.astype(np.float64), 60, 60)
    np.testing.assert_allclose(exact, (wide.transpose(2, 0, 1) - 127.5) / 127.5, atol=1.5e-7)
    assert 0 < np.abs(new - old).max() <= 2.001 / 255


def test_scaling_of_every_level():
    levels = np.arange(256, dtype=np.uint8)
    scaled = scale_levels(levels)
    assert scaled.dtype == np.float32
    assert (scaled[0], scaled[255]) == (-1, 1)
    exact = np.arange(256) / 127.5 - 1
    assert np.abs(scaled - exact).max() <= 2.0**-24 * 1.01
    floats = scale_floats(levels.astype(np.float32))
    assert floats.dtype == np.float32
    assert np.abs(floats - exact).max() <= 2.0**-24 * 1.01
    assert scale_floats(np.array([-3, 300], np.float32)).tolist() == [-1, 1]


@pytest.mark.witness
def test_scaling_equals_transformers_on_every_level():
    from transformers.image_transforms import normalize, rescale

    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, axis=0)
    theirs = normalize(rescale(levels, 1 / 255), [0.5] * 3, [0.5] * 3, input_data_format="channels_first")
    np.testing.assert_array_equal(scale_levels(levels), theirs)


@pytest.mark.parametrize(
    ("image", "settings", "match"),
    [
        (RGB.astype(np.float32), {}, r"image: wanted \[Y, X, 3\] uint8 from read_image, got \[6, 5, 3\] float32"),
        (RGB.transpose(2, 0, 1), {}, r"got \[3, 6, 5\] uint8"),
        (RGB[0], {}, r"got \[5, 3\] uint8"),
        (RGB[:0], {}, "sides of at least 1 pixel, got 5 x 0"),
        (RGB, {"resize": "nearest"}, "resize: wanted pillow pillow12.1 float, got nearest"),
        (RGB, {"size": 0}, "size: wanted 1 to 4096, got 0"),
        (RGB, {"crops": CROPS["transformers"]._replace(min_ratio=np.nan)}, "min_ratio: wanted a finite number above 0"),
        (RGB, {"crops": CROPS["transformers"]._replace(min_crop=0)}, "min_crop: wanted 1 pixel or more, got 0"),
        (RGB, {"crops": CROPS["transformers"]._replace(min_crop=1.5)}, "min_crop: wanted 1 pixel or more, got 1.5"),
        (RGB, {"crops": CROPS["transformers"]._replace(max_crops=0)}, "max_crops: wanted 1 to 512, got 0"),
        (RGB, {"crops": CROPS["transformers"]._replace(max_crops=10**9)}, "max_crops: wanted 1 to 512, got 1000000000"),
    ],
)
def test_preprocess_refuses(image, settings, match):
    with pytest.raises(BadInput, match=match) as refused:
        preprocess(image, **settings)
    assert "\n" not in str(refused.value)


def test_no_crops_asked_no_boxes():
    assert find_boxes(1000, 3000, None).shape == (0, 4)
    assert find_boxes(1000, 2500, CROPS["transformers"]).tolist()[2] == [0, 1668, 1000, 2500]


# --- files -----------------------------------------------------------------------------------------------------------


def palette(**settings):
    image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(6, 5) % 4)
    image = image.convert("P")
    image.putpalette([200, 10, 20, 30, 220, 40, 50, 60, 230, 9, 8, 7])
    return image, settings


def alpha(mode):
    image = Image.fromarray(np.dstack([RGB, RANDOM.integers(0, 256, (6, 5), dtype=np.uint8)]))
    return image.convert(mode)


FILES = {
    "rgb png": file_of(RGB),
    "grey": file_of(RGB[..., 0]),
    "one bit": file_of(Image.fromarray(RGB[..., 0]).convert("1")),
    "palette": file_of(palette()[0]),
    "palette, a transparent colour": file_of(palette()[0], transparency=2),
    "palette, alphas": file_of(palette()[0], transparency=bytes([0, 90, 255, 7])),
    "palette gif": file_of(palette()[0], "GIF", transparency=1),
    "grey with alpha": file_of(alpha("LA")),
    "alpha": file_of(alpha("RGBA")),
    "a transparent colour": file_of(RGB, transparency=tuple(int(v) for v in RGB[0, 0])),
    "alpha webp": file_of(alpha("RGBA"), "WEBP", lossless=True, exact=True),
    "cmyk tiff": file_of(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    "cmyk jpeg": file_of(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "jpeg": file_of(RGB, "JPEG"),
    "grey jpeg": file_of(RGB[..., 0], "JPEG"),
    "bmp": file_of(RGB, "BMP"),
    "ppm": file_of(RGB, "PPM"),
    "lab tiff": file_of(Image.merge("LAB", [Image.fromarray(RGB[..., c]) for c in range(3)]), "TIFF"),
    "profile": file_of(RGB, icc_profile=b"not even a profile"),
    "gif, three frames": file_of(RGB, "GIF", **FRAMES),
    "tiff, three pages": file_of(RGB, "TIFF", **FRAMES),
    "webp, three frames": file_of(RGB, "WEBP", lossless=True, **FRAMES),
}


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


WIDE = RANDOM.integers(0, 65536, (6, 5), dtype=np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    image = Image.fromarray(WIDE) if kind != "PPM" else Image.fromarray(WIDE.astype(np.int32))
    data = file_of(image, kind)
    grey = read_image(data)
    assert (grey == grey[..., :1]).all()
    np.testing.assert_array_equal(grey[..., 0], np.rint(WIDE * (255 / 65535)))
    with Image.open(BytesIO(data)) as opened:  # the trap: nearly all of it is white
        assert (np.array(opened.convert("RGB")) == 255).mean() > 0.9


def tiff(values, bits, photometric):
    """A grey TIFF by hand, uncompressed: Pillow writes neither 12 bits nor white as 0."""
    import struct

    if bits == 16:
        data = values.astype("<u2").tobytes()
    else:
        rows = ["".join(f"{v:0{bits}b}" for v in row) for row in values]
        data = b"".join(int(row + "0" * (-len(row) % 8), 2).to_bytes(-(-len(row) // 8), "big") for row in rows)
    (height, width), count = values.shape, len(data)
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8), (277, 1), (278, height), (279, count)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + count) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


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


def bomb_header(width, height):
    """A PNG that claims to be so large; its pixels are not there."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


PLENTY = file_of(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8), "JPEG")
REFUSED = {
    "empty": (b"", "a file that Pillow can read, got no image"),
    "text": (b"not an image", "a file that Pillow can read, got no image"),
    "truncated png": (FILES["rgb png"][:-30], "a whole and sound file"),
    "truncated jpeg": (PLENTY[: len(PLENTY) // 2], "a whole and sound file"),
    "truncated bmp": (FILES["bmp"][:-10], "a whole and sound file"),
    "only a signature": (FILES["rgb png"][:8], "a file that Pillow can read, got no image"),
    "a zero side": (bomb_header(0, 5), "a file that Pillow can read, got no image"),
    "a side over 2^24": (bomb_header(2**24 + 1, 1), "sides of at most 16,777,216 pixels, got 16777217 x 1"),
    "12-bit tiff": (tiff(np.array([[0, 4095]]), 12, 1), "8 or 16 bits a channel, got TIFF of 12 bits"),
    "65 million pixels": (bomb_header(8001, 8001), "at most 64,000,000 pixels, got 8001 x 8001 = 64,016,001"),
    "where Pillow warns": (bomb_header(10_000, 10_000), "at most 64,000,000 pixels, got 10000 x 10000 = 100,000,000"),
    "where Pillow refuses": (bomb_header(50_000, 50_000), "at most 64,000,000 pixels, got Image size"),
    "float pixels": (file_of(np.ones((2, 3), np.float32), "TIFF"), "8 or 16 bits a channel, got mode F"),
    "32-bit pixels": (file_of(np.ones((2, 3), np.int32), "TIFF"), "8 or 16 bits a channel, got mode I"),
    "eps": (file_of(RGB, "EPS"), "pixels, got EPS, a program"),
    "changed byte": (FILES["rgb png"][:60] + b"\xff" + FILES["rgb png"][61:], "a whole and sound file"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_files_are_refused_in_one_line(name, tmp_path):
    data, match = REFUSED[name]
    (tmp_path / "bad.png").write_bytes(data)
    for source, where in ((data, "image"), (tmp_path / "bad.png", str(tmp_path / "bad.png"))):
        with pytest.raises(BadInput) as refused:
            read_image(source)
        assert str(refused.value).startswith(f"{where}: image: wanted ")
        assert match in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "0x" not in str(refused.value)


def test_the_limit_is_looked_at_before_decoding(monkeypatch):
    monkeypatch.setattr(image_file, "MOST_PIXELS", 29)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadInput, match="at most 29 pixels, got 5 x 6 = 30"):
        read_image(FILES["bmp"])


def test_places_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, got in (("nothing", "No such file"), (".", "a folder"), ("pipe", "a device or pipe"), ("a\0b", "null")):
        with pytest.raises(BadInput, match=rf"image: wanted a readable file, got .*{got}"):
            read_image(tmp_path / path)
    for source in (None, 3, [1, 2], Image.fromarray(RGB)):
        with pytest.raises(BadInput, match="image: image: wanted a path, bytes or a NumPy array, got "):
            read_image(source)
    with pytest.raises(BadInput, match="wanted an array beside them, got a file"):
        read_image(FILES["bmp"], layout="HWC")
    with pytest.raises(BadInput, match=r"^photo 3: image: wanted"):
        read_image(b"", "photo 3")


@given(data=st.data(), name=st.sampled_from(sorted(FILES)))
def test_damaged_files_are_read_or_refused_in_one_line(data, name):
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    with read_or_refused():
        read_image(bytes(content))


def test_what_pillow_logs_of_damaged_files_stays_off_stderr(tmp_path):
    """More samples a pixel than there can be: refused in one line, with nothing of Pillow's before it."""
    content = bytearray(FILES["cmyk tiff"])
    [entry] = [at for at in range(len(content)) if content[at : at + 8] == b"\x15\x01\x03\x00\x01\x00\x00\x00"]
    content[entry + 8 : entry + 10] = b"\x00\x08"
    (tmp_path / "bad.tiff").write_bytes(content)
    done = command("crops", str(tmp_path / "bad.tiff"))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr


# --- arrays ----------------------------------------------------------------------------------------------------------


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
