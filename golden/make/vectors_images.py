"""Vectors of images on their way in: resizing."""

import json
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch.nn import functional
from vectors_crops import GEMMA_PYTORCH
from vectors_form import WITNESS, flag, mistakes, vector

JAX_FILE = json.loads((Path(__file__).parent / "jax_resize.json").read_text())  # written by jax_images.py
JAX = f"jax {JAX_FILE['jax']}"
PILLOW = f"Pillow {PIL.__version__}"
OLD_PILLOW = "Pillow 12.1.0"
LEGEND = {"Y": "rows", "X": "columns", "C": "channels"}
SOURCES = {
    JAX: {"kind": "witness", "version": JAX_FILE["jax"], "link": "https://github.com/jax-ml/jax"},
    PILLOW: {"kind": "witness", "version": PIL.__version__, "link": "https://github.com/python-pillow/Pillow"},
    OLD_PILLOW: {"kind": "witness", "version": "12.1.0", "link": "https://github.com/python-pillow/Pillow"},
    GEMMA_PYTORCH: {
        "kind": "witness",
        "version": "commit 014acb7, `_pan_and_scan_os` run by hand",
        "link": "https://github.com/google/gemma_pytorch",
    },
}
LEVELS = {"atol": 0.0, "rtol": 0.0, "basis": "exact: whole levels"}
SUMS = {"atol": 2e-13, "rtol": 1e-12, "basis": "float64 sums of up to 24 levels; in float32 take 1e-5 of the largest"}


def _bytes(*shape, seed):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _pillow(image, height, width, kind=Image.Resampling.BILINEAR):
    return np.array(Image.fromarray(image).resize((width, height), kind)).tolist()


def _torch(image, height, width, mode="bilinear", **settings):
    planes = torch.from_numpy(np.array(image, np.float64)).permute(2, 0, 1)[None]
    return functional.interpolate(planes, (height, width), mode=mode, **settings)[0].permute(1, 2, 0)


def _black_edges(image, height, width):
    """The triangle's weights divided by its area instead of their sum, so that the outside counts as black."""
    image = np.array(image, np.float64)
    for axis, wanted in enumerate((height, width)):
        ratio = image.shape[axis] / wanted
        places = (np.arange(wanted) + 0.5)[:, None] * ratio - np.arange(image.shape[axis]) - 0.5
        weights = np.maximum(1 - np.abs(places) / max(ratio, 1), 0) / max(ratio, 1)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image.tolist()


def _float_vectors():
    rows = JAX_FILE["rows"]
    keys = ("image", "height", "width")
    inputs = [{"rule": "float", **{key: row[key] for key in keys}} for row in rows]
    truths = [row["expected"] for row in rows]
    vectors = [
        vector(row["comment"], given, row["expected"], source=JAX, tolerance=SUMS)
        for row, given in zip(rows, inputs, strict=True)
    ]
    larger = {"rule": "float", "image": _bytes(9, 8, 1, seed=3).tolist(), "height": 4, "width": 5}
    sides = larger["image"], 4, 5
    vectors.append(vector("9 x 8 to 4 x 5", larger, _torch(*sides, antialias=True), source=WITNESS, tolerance=SUMS))
    line, both = [tuple(inputs[at][key] for key in keys) for at in (0, 3)]
    rows = [
        ("pixels_no_antialias", "the triangle reaches one pixel", _torch(*both)),
        ("pixels_align_corners", "corner pixels on corner pixels", _torch(*both, align_corners=True)),
        ("pixels_nearest_corner", "nearest neighbour", _torch(*both, mode="nearest")),
        ("pixels_bicubic", "bicubic with antialias", _torch(*both, mode="bicubic", antialias=True)),
        ("pixels_box", "plain averages", _torch(*both, mode="area")),
        ("BlackEdges", "black outside the image", _black_edges(*both)),
    ]
    vectors += mistakes(inputs[3], truths[3], rows, source=WITNESS, tolerance=SUMS)
    rows = [("BlackEdges", "black outside the image", _black_edges(*line))]
    return vectors + mistakes(inputs[0], truths[0], rows, source=WITNESS, tolerance=SUMS)


def _pillow_vectors():
    def case(comment, image, height, width, flags=()):
        inputs = {"rule": "pillow", "image": image.tolist(), "height": height, "width": width}
        truth = _pillow(image, height, width)
        return inputs, truth, vector(comment, inputs, truth, source=PILLOW, tolerance=LEVELS, flags=flags)

    both_image, tall_image = _bytes(7, 9, 3, seed=1), _bytes(9, 3, 3, seed=SEED)
    both, both_truth, both_vector = case("7 x 9 to 3 x 4", both_image, 3, 4, ["pixels_rounded_once"])
    tall, tall_truth, tall_vector = case("9 x 3 to 3 x 2: rows first", tall_image, 3, 2, ["pixels_columns_first"])
    stripes = np.zeros((6, 10, 3), np.uint8)
    stripes[:, ::2] = 255
    vectors = [
        both_vector, tall_vector,
        case("2 x 3 to 5 x 7: growing", _bytes(2, 3, 3, seed=2), 5, 7)[2],
        case("black and white stripes, 6 x 10 to 4 x 3", stripes, 4, 3)[2],
        case("all white stays white", np.full((5, 6, 3), 255, np.uint8), 2, 5)[2],
        case("a side that stays has no pass: 4 x 6 to 4 x 3", _bytes(4, 6, 3, seed=4), 4, 3)[2],
        case("1 x 1 to 2 x 2", _bytes(1, 1, 3, seed=5), 2, 2)[2],
        case("12 x 11 to 1 x 1", _bytes(12, 11, 3, seed=6), 1, 1)[2],
    ]  # fmt: skip
    once = _torch(both_image, 3, 4, antialias=True)
    rows = [
        ("pixels_rounded_once", "rounded once, at the end", torch.floor(once + 0.5)),
        ("pixels_levels_cut_off", "rounded down", torch.floor(once)),
        ("pixels_nearest", "nearest neighbour", _pillow(both_image, 3, 4, Image.Resampling.NEAREST)),
        ("pixels_bicubic", "bicubic", _pillow(both_image, 3, 4, Image.Resampling.BICUBIC)),
        ("pixels_no_antialias", "the triangle reaches one pixel", torch.floor(_torch(both_image, 3, 4) + 0.5)),
    ]
    vectors += mistakes(both, both_truth, rows, source=PILLOW, tolerance=LEVELS)
    rows = [("pixels_columns_first", "columns first, as Pillow up to 12.1 always", OLD_TALL)]
    return vectors + mistakes(tall, tall_truth, rows, result="may", source=OLD_PILLOW, tolerance=LEVELS)


SEED = 0
# `_pillow(_bytes(9, 3, 3, seed=SEED), 3, 2)` with Pillow 12.1.0 installed
OLD_TALL = [[[162, 156, 118], [93, 182, 101]], [[110, 126, 104], [102, 138, 105]], [[164, 156, 161], [105, 111, 173]]]


def resize():
    return {
        "description": "Bilinear with antialias: w[o, i] = max(0, 1 - |i + 1/2 - (o + 1/2) s| / max(s, 1)) / sum over "
        "i, s = inputs / outputs, along columns and along rows. Rule float rounds nothing; rule pillow rounds weights "
        "to 2^-22 and each pass to whole levels, halves up, columns first unless Y - height > 2 (X - width) and "
        "Y > height.",
        "axes": {"image": "Y X C", "expected": "Y X C"},
        "flags": {
            "pixels_no_antialias": flag(
                "missing step", "The triangle does not grow as the image shrinks.", "Large pictures alias.",
                "ggml-org/llama.cpp/pull/27594",
            ),
            "pixels_align_corners": flag(
                "wrong formula", "Places scaled by (n - 1) / (m - 1).", "Picture moves at its edges."
            ),
            "pixels_nearest": flag("wrong filter", "One input pixel an output pixel.", "Aliasing."),
            "pixels_nearest_corner": flag("wrong filter", "The pixel at the corner, not the nearest.", "Aliasing."),
            "pixels_bicubic": flag("wrong filter", "The processor's file says resample 2, bilinear.", "Sharper edges."),
            "pixels_box": flag("wrong filter", "Averages over equal boxes.", "Blurs less."),
            "BlackEdges": flag("wrong formula", "Weights outside the image are lost.", "Dark rim."),
            "pixels_rounded_once": flag("wrong rounding", "Pillow rounds after each pass.", "Levels off by one."),
            "pixels_levels_cut_off": flag("wrong rounding", "Halves are rounded up.", "Darker by half a level."),
            "pixels_columns_first": flag(
                "other version", "Pillow 13 sums over rows first where the height shrinks by much more.",
                "Levels off by one in portraits.", "python-pillow/Pillow/pull/9549",
            ),
        },
        "vectors": _float_vectors() + _pillow_vectors(),
    }  # fmt: skip
