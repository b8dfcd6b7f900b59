"""Mistakes in pixels: by hand on small images, beside witnesses that make them on purpose, and on the goldens."""

import json
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ref.golden_files.files import golden_root
from ref.golden_files.sampled import sample_places
from ref.mutants.pixels import PIXEL_MUTANTS
from ref.prompt.images import preprocess, scale_levels
from ref.testing.catches.pixels import kills, photo_goldens, photographs, vector_goldens

MUTANTS = {mutant.name: mutant for mutant in PIXEL_MUTANTS}
WITH_PHOTOGRAPHS = pytest.mark.skipif(photographs() is None, reason="photographs: pip install -e '.[test]'")


def truth(image, size):
    return preprocess(image, size=size).pixels[0]


def grey(*rows):
    return np.array(rows, np.uint8)[..., None].repeat(3, axis=-1)


def made(name, image, size):
    pixels = MUTANTS[name].run(image, size)
    height, width = (size, size) if isinstance(size, int) else size
    assert (pixels.shape, pixels.dtype) == ((3, height, width), np.float32)
    assert pixels.flags.c_contiguous
    return pixels.astype(np.float64)


def levels_of(pixels):
    return (pixels + 1) * 127.5


# --- scale: one pixel of red 255, green 102, blue 0 is [1, -0.2, -1] -------------------------------------------------

PIXEL = np.array([[[255, 102, 0]]], np.uint8)
SCALED = {
    "pixels_bgr": [-1, -0.2, 1],
    "pixels_range_0_1": [1, 0.4, 0],
    "pixels_scaled_twice": [2 / 255 - 1, 0.8 / 255 - 1, -1],
    "pixels_not_rescaled": [509, 203, -1],
    "pixels_levels": [255, 102, 0],
    "pixels_normalised_twice": [1, -1.4, -3],
    "pixels_range_-1_-0.5": [-0.5, -0.8, -1],
    "pixels_imagenet": [0.515 / 0.229, (0.4 - 0.456) / 0.224, -0.406 / 0.225],
    "pixels_clip_mean": [0.51854534 / 0.26862954, (0.4 - 0.4578275) / 0.26130258, -0.40821073 / 0.27577711],
    "pixels_linear_light": [1, 2 * ((0.4 + 0.055) / 1.055) ** 2.4 - 1, -1],
}


@pytest.mark.parametrize("name", SCALED)
def test_it_scales_as_it_says(name):
    np.testing.assert_allclose(truth(PIXEL, 1).ravel(), [1, -0.2, -1], atol=1e-7)
    np.testing.assert_allclose(made(name, PIXEL, 1).ravel(), SCALED[name], rtol=1e-6, atol=1e-6)


# --- resize: a line of 0 90 30 200 100 to two pixels; weights 7 9 5 1 and 1 5 9 7 of 22 ------------------------------

LINE = grey([0, 90, 30, 200, 100])
RESIZED = {
    "pixels_nearest": [90, 200],  # 1.25 and 3.75 lie in pixels 1 and 3
    "pixels_nearest_corner": [0, 30],  # places 0 and 2.5
    "pixels_no_antialias": [68, 175],  # places 0.75 and 3.25: 67.5 and 175
    "pixels_align_corners": [0, 100],
    "pixels_box": [40, 150],
    "pixels_levels_cut_off": [52, 124],  # of 52.7 and 124.5
    "pixels_float_resize": [116 / 2.2, 274 / 2.2],
    "pixels_normalised_first": [116 / 2.2, 274 / 2.2],
}


@pytest.mark.parametrize("name", RESIZED)
def test_it_resizes_as_it_says(name):
    right = preprocess(LINE.repeat(2, axis=0), size=2).pixels[0]
    np.testing.assert_allclose(levels_of(right.astype(float)), [[[53, 125]] * 2] * 3, atol=1e-4)
    got = levels_of(made(name, LINE, (1, 2)))
    np.testing.assert_allclose(got, [[RESIZED[name]]] * 3, atol=1e-4)


def test_the_filters_of_pillow_overshoot_where_bilinear_does_not():
    edge = grey([0] * 4 + [100] * 4)
    for name in ("pixels_bicubic", "pixels_lanczos"):
        assert levels_of(made(name, edge, (1, 16))).max() > 101
    assert (
        levels_of(made("pixels_lanczos", edge, (1, 16))).max() > levels_of(made("pixels_bicubic", edge, (1, 16))).max()
    )


def test_the_mean_of_black_and_white_is_lighter_in_linear_light():
    stripes = grey([0, 255])
    assert levels_of(made("pixels_float_resize", stripes, 1)).tolist() == [[[127.5]]] * 3
    np.testing.assert_allclose(levels_of(made("pixels_resized_in_linear_light", stripes, 1)), 188, atol=1e-4)


def test_shapes():
    wide = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    boxed = levels_of(made("pixels_letterbox", wide, 4))
    assert boxed[:, [0, 3]].max() < 1e-4
    np.testing.assert_allclose(boxed[:, 1:3], wide.transpose(2, 0, 1), atol=1e-4)
    np.testing.assert_allclose(levels_of(made("pixels_letterbox", wide.swapaxes(0, 1), 4))[..., 1:3],
                               wide.transpose(2, 1, 0), atol=1e-4)  # fmt: skip
    np.testing.assert_allclose(
        levels_of(made("pixels_centre_crop", wide, 2)), wide[:, 1:3].transpose(2, 0, 1), atol=1e-4
    )
    square = wide[:, :2]
    np.testing.assert_allclose(levels_of(made("pixels_xy_swapped", square, 2)), square.transpose(2, 1, 0), atol=1e-4)
    assert levels_of(made("pixels_hwc_as_chw", square, 2)).round().ravel().tolist() == square.ravel().tolist()


# --- the mistakes that witnesses made on purpose, beside the right ones in golden/vectors/resize.json ----------------

CONTENT = json.loads((golden_root() / "vectors" / "resize.json").read_text())["vectors"]
FLAGS = [
    (row["inputs"]["rule"], flag)
    for row in CONTENT
    if row["result"] != "must"
    for flag in row["flags"]
    # weights outside the image (BlackEdges) are no mutant; the float vectors of these two are not rounded by Pillow
    if flag in MUTANTS and (row["inputs"]["rule"], flag) not in {("float", "pixels_bicubic"), ("float", "pixels_box")}
]


@pytest.mark.parametrize(("rule", "flag"), FLAGS)
def test_a_witness_makes_the_same_mistake(rule, flag):
    assert len(FLAGS) == 9
    [row] = [r for r in CONTENT if r["result"] != "must" and r["inputs"]["rule"] == rule and flag in r["flags"]]
    image, expected = np.array(row["inputs"]["image"]), np.array(row["expected"], np.float64)
    if image.shape[2] != 3:
        image, expected = image[..., [0, 0, 0]], expected[..., [0, 0, 0]]
    sides = row["inputs"]["height"], row["inputs"]["width"]
    got = levels_of(made(flag, image.astype(np.uint8), sides)).transpose(1, 2, 0)
    assert np.abs(got - expected).max() <= (1e-4 if rule == "pillow" else 0.5 + 1e-4)  # torch's are not rounded


@WITH_PHOTOGRAPHS
def test_the_variant_in_floats_is_the_one_of_google_deepmind_gemma():
    folder = photographs()
    assert folder
    images = photo_goldens(folder)
    for row in json.loads((golden_root() / "images" / "gemma.json").read_text())["rows"]:
        image, _ = images[f"images/transformers/{row['picture']}"]
        for name, limit in (("pixels_float_resize", row["tolerance"]["atol"]), ("pixels_normalised_first", 1e-6)):
            pixels = MUTANTS[name].run(image, 896)
            samples = pixels.ravel()[sample_places(pixels.size, len(row["samples"]))]
            assert np.abs(samples - np.array(row["samples"])).max() <= limit


# --- where the need is not met ---------------------------------------------------------------------------------------


def black(side):
    return np.zeros((side, side + 1, 3), np.uint8)


def random(Y, X, seed):
    return np.random.default_rng(seed).integers(0, 256, (Y, X, 3), dtype=np.uint8)


def without(name, side, seed):
    """An image of which the mistake's need does not hold, resized to `side`."""
    colours = random(side + 2, side + 1, seed)
    symmetric = np.triu(colours[:side, :side, 0]) + np.triu(colours[:side, :side, 0], 1).T
    same = random(side, side, seed)
    return {
        "pixels_bgr": colours[..., :1].repeat(3, axis=-1),
        "pixels_range_0_1": 255 - black(side),
        "pixels_scaled_twice": black(side),
        "pixels_not_rescaled": black(side),
        "pixels_normalised_twice": 255 - black(side),
        "pixels_range_-1_-0.5": black(side),
        "pixels_linear_light": (same > 127).astype(np.uint8) * np.uint8(255),
        "pixels_no_antialias": random(max(1, side - 1), side, seed),
        "pixels_rounded_once": colours[:1, :1],
        "pixels_columns_first": random(side + 2, side + 3, seed),
        "pixels_letterbox": random(side + 1, side + 1, seed),
        "pixels_centre_crop": random(side + 1, side + 1, seed),
        "pixels_xy_swapped": symmetric[..., None].repeat(3, axis=-1),
        "pixels_hwc_as_chw": np.full((side + 2, side + 1, 3), colours[0, 0, 0]),
    }.get(name, same)


NO_NEED = {"pixels_levels", "pixels_imagenet", "pixels_clip_mean"}  # any image shows them


@pytest.mark.parametrize("name", sorted(set(MUTANTS) - NO_NEED))
@settings(max_examples=30)
@given(side=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_it_changes_nothing_where_its_need_is_not_met(name, side, seed):
    image = without(name, side, seed)
    right, got = truth(image, side), made(name, image, side)
    last_bits = name in ("pixels_float_resize", "pixels_range_-1_-0.5", "pixels_scaled_twice", "pixels_linear_light")
    np.testing.assert_allclose(got, right, rtol=0, atol=2e-7 if last_bits else 0)


# --- the goldens -----------------------------------------------------------------------------------------------------


def test_each_mistake_is_described_and_named_once():
    assert len(MUTANTS) == len(PIXEL_MUTANTS)
    for mutant in PIXEL_MUTANTS:
        assert mutant.name.startswith("pixels_")
        assert mutant.what
        assert mutant.needs.words
    variants = {mutant.name for mutant in PIXEL_MUTANTS if mutant.what.startswith("a variant: ")}
    assert variants == {"pixels_rounded_once", "pixels_columns_first", "pixels_float_resize"}


def test_every_mistake_is_caught_by_a_small_golden():
    caught = kills()
    assert set(caught) == set(MUTANTS)
    assert [name for name, cases in caught.items() if not cases] == []
    assert caught["pixels_columns_first"] == ["resize-18"]


def test_the_small_goldens_tell_all_mistakes_apart():
    answers = defaultdict(list)
    for mutant in PIXEL_MUTANTS:
        given = vector_goldens().values()
        answers[b"".join(mutant.run(image, sides).tobytes() for image, sides, _ in given)].append(mutant.name)
    assert [names for names in answers.values() if len(names) > 1] == []


def test_the_small_goldens_are_right_of_the_rule_itself():
    goldens = vector_goldens()
    squares = {name: case for name, case in goldens.items() if case[1][0] == case[1][1]}
    assert len(goldens) == 8
    assert set(squares) == {"resize-23", "resize-24"}
    for image, (side, _), levels in squares.values():
        np.testing.assert_array_equal(truth(image, side), scale_levels(levels).transpose(2, 0, 1))


@WITH_PHOTOGRAPHS
def test_every_mistake_is_caught_by_a_photograph():
    caught = kills(photographs())
    for name, cases in caught.items():
        seen = [case.removeprefix("images/transformers/") for case in cases if case.startswith("images/")]
        assert seen, name
        if name == "pixels_columns_first":
            assert seen == ["portrait"]
        if name == "pixels_bgr":
            assert "grey" not in seen
    assert not {"images/transformers/square", "images/transformers/one-pixel"} & set(caught["pixels_letterbox"])
