"""Images in: the pixels of photographs and made-up images, against three witnesses."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import RGB

from ref.config import CROPS
from ref.errors import BadInput
from ref.golden_files.files import golden_root
from ref.golden_files.sampled import sample_places
from ref.ops.resize import resize_float, resize_pillow_jit
from ref.prompt.images import find_boxes, preprocess, read_image, scale_floats, scale_levels

RANDOM = np.random.default_rng(0)
SKIMAGE = find_spec("skimage")
PHOTOGRAPHS = Path(SKIMAGE.origin).parent / "data" if SKIMAGE and SKIMAGE.origin else None
GOLDEN = [(path.stem, row) for path in sorted((golden_root() / "images").glob("*.json"))
          for row in json.loads(path.read_text())["rows"]]  # fmt: skip


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
