"""Vectors of images on their way in: resizing, and the boxes of Pan & Scan."""

import json
import math
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch.nn import functional
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from vectors_form import TRANSFORMERS, WITNESS, flag, mistakes, vector

JAX_FILE = json.loads((Path(__file__).parent / "jax_resize.json").read_text())  # written by jax_images.py
JAX = f"jax {JAX_FILE['jax']}"
PILLOW = f"Pillow {PIL.__version__}"
OLD_PILLOW = "Pillow 12.1.0"
GEMMA_PYTORCH = "google/gemma_pytorch"

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
PIXELS = {"atol": 0.0, "rtol": 0.0, "basis": "exact: pixels"}
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
        ("NoAntialias", "the triangle reaches one pixel", _torch(*both)),
        ("AlignCorners", "corner pixels on corner pixels", _torch(*both, align_corners=True)),
        ("Nearest", "nearest neighbour", _torch(*both, mode="nearest")),
        ("Bicubic", "bicubic with antialias", _torch(*both, mode="bicubic", antialias=True)),
        ("BoxFilter", "plain averages", _torch(*both, mode="area")),
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
    both, both_truth, both_vector = case("7 x 9 to 3 x 4", both_image, 3, 4, ["TwoRoundings"])
    tall, tall_truth, tall_vector = case("9 x 3 to 3 x 2: rows first", tall_image, 3, 2, ["PassOrder"])
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
        ("TwoRoundings", "rounded once, at the end", torch.floor(once + 0.5)),
        ("Truncated", "rounded down", torch.floor(once)),
        ("Nearest", "nearest neighbour", _pillow(both_image, 3, 4, Image.Resampling.NEAREST)),
        ("Bicubic", "bicubic", _pillow(both_image, 3, 4, Image.Resampling.BICUBIC)),
        ("NoAntialias", "the triangle reaches one pixel", torch.floor(_torch(both_image, 3, 4) + 0.5)),
    ]
    vectors += mistakes(both, both_truth, rows, source=PILLOW, tolerance=LEVELS)
    rows = [("PassOrder", "columns first, as Pillow up to 12.1 always", OLD_TALL)]
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
            "NoAntialias": flag(
                "missing step", "The triangle does not grow as the image shrinks.", "Large pictures alias.",
                "ggml-org/llama.cpp/pull/27594",
            ),
            "AlignCorners": flag("wrong formula", "Places scaled by (n - 1) / (m - 1).", "Picture moves at its edges."),
            "Nearest": flag("wrong filter", "One input pixel an output pixel.", "Aliasing."),
            "Bicubic": flag("wrong filter", "The processor's file says resample 2, bilinear.", "Sharper edges."),
            "BoxFilter": flag("wrong filter", "Averages over equal boxes.", "Blurs less."),
            "BlackEdges": flag("wrong formula", "Weights outside the image are lost.", "Dark rim."),
            "TwoRoundings": flag("wrong rounding", "Pillow rounds after each pass.", "Levels off by one."),
            "Truncated": flag("wrong rounding", "Halves are rounded up.", "Darker by half a level."),
            "PassOrder": flag(
                "other version", "Pillow 13 sums over rows first where the height shrinks by much more.",
                "Levels off by one in portraits.", "python-pillow/Pillow/pull/9549",
            ),
        },
        "vectors": _float_vectors() + _pillow_vectors(),
    }  # fmt: skip


def _crops(height, width, min_ratio, min_crop, max_crops, past_edge="clip"):
    """Boxes that transformers cuts, read off an image whose pixels hold their own place."""
    assert past_edge == "clip"
    place = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    crops = Gemma3ImageProcessorPil().pan_and_scan(place, min_crop, max_crops, min_ratio)
    return [[*(int(v) for v in c.min((1, 2))), *(int(v) + 1 for v in c.max((1, 2)))] for c in crops]


def _other(height, width, min_ratio, min_crop, max_crops, past_edge, **change):
    """The rule with one thing done otherwise."""
    of = {"activates": lambda ratio: ratio >= min_ratio, "nearest": lambda ratio: math.floor(ratio + 0.5),
          "clamp": lambda n, most: min(max_crops, max(2, min(most, n))), "size": math.ceil,
          "fits": lambda size, last, short: min(size, short) >= min_crop, "clip": True, "swap": False}  # fmt: skip
    of |= change
    longer, shorter = max(height, width), min(height, width)
    if not of["activates"](longer / shorter):
        return []
    n = of["clamp"](of["nearest"](longer / shorter), longer // min_crop)
    size = of["size"](longer / n)
    spans = [(i * size, min((i + 1) * size, longer) if of["clip"] else (i + 1) * size) for i in range(n)]
    if not of["fits"](size, spans[-1][1] - spans[-1][0], shorter):
        return []
    if (width >= height) != of["swap"]:
        return [[0, start, height, stop] for start, stop in spans]
    return [[start, 0, stop, width] for start, stop in spans]


# width, height: the table of the specification
TABLE = [(896, 896), (1000, 834), (1000, 833), (1200, 1000), (1199, 1000), (1024, 512), (1920, 1080), (640, 480),
         (511, 400), (513, 300), (600, 300), (1001, 400), (1003, 300), (2500, 1000), (2499, 1000), (3000, 500),
         (5000, 500), (769, 256), (767, 256), (4097, 257), (257, 4097), (600, 255)]  # fmt: skip
PORTRAITS = [(833, 1000), (1000, 1200), (400, 511), (1000, 2500), (500, 3000), (255, 600)]
# what `_pan_and_scan_os` of gemma_pytorch returned: width, height, min_crop, max_crops, boxes
BLACK_PADDED = [
    (2500, 1000, 256, 4, [[0, 0, 1000, 834], [0, 834, 1000, 1668], [0, 1668, 1000, 2502]]),
    (1000, 2500, 256, 4, [[0, 0, 834, 1000], [834, 0, 1668, 1000], [1668, 0, 2502, 1000]]),
    (1001, 400, 256, 4, [[0, 0, 400, 334], [0, 334, 400, 668], [0, 668, 400, 1002]]),
    (1003, 300, 256, 4, [[0, 0, 300, 335], [0, 335, 300, 670], [0, 670, 300, 1005]]),
    (1500, 1000, 256, 4, [[0, 0, 1000, 750], [0, 750, 1000, 1500]]),
    (1499, 1000, 256, 4, []),
    (640, 480, 256, 4, []),
    (257, 4097, 256, 4, [[0, 0, 1025, 257], [1025, 0, 2050, 257], [2050, 0, 3075, 257], [3075, 0, 4100, 257]]),
    (600, 255, 256, 4, []),
    (5, 1, 1, 4, [[0, 0, 1, 2], [0, 2, 1, 4], [0, 4, 1, 6], [0, 6, 1, 8]]),
]


def _settings(width, height, min_ratio=1.2, min_crop=256, max_crops=4, past_edge="clip"):
    return {"height": height, "width": width, "min_ratio": min_ratio, "min_crop": min_crop, "max_crops": max_crops,
            "past_edge": past_edge}  # fmt: skip


def pan_and_scan():
    vectors = []

    def right(comment, inputs, flags=()):
        truth = _crops(**inputs)
        vectors.append(vector(comment, inputs, truth, source=TRANSFORMERS, tolerance=PIXELS, flags=flags))

    def wrong(sides, *rows, **settings):
        inputs = _settings(*sides, **settings)
        outputs = [(name, comment, _other(**inputs, **change)) for name, comment, change in rows]
        source = {"source": GEMMA_PYTORCH if inputs["past_edge"] == "pad" else TRANSFORMERS}
        truth = _other(**inputs, clip=inputs["past_edge"] == "clip")
        assert inputs["past_edge"] == "pad" or truth == _crops(**inputs)
        vectors.extend(mistakes(inputs, truth, outputs, tolerance=PIXELS, **source))

    for width, height in TABLE:
        right(f"{width} x {height}", _settings(width, height))
    for width, height in PORTRAITS:
        right(f"{width} x {height}: a portrait", _settings(width, height))
    right("the image processor's own test", _settings(300, 600, min_crop=10, max_crops=2))
    right("a square with ratio 0.3: two crops", _settings(640, 640, 0.3, 32, 448))
    right("max_crops 1: the whole image again", _settings(2500, 1000, max_crops=1))
    right("ratio 1.5, as gemma_pytorch's, but clipped", _settings(1001, 400, 1.5))
    for width, height, min_crop, max_crops, boxes in BLACK_PADDED:
        inputs = _settings(width, height, 1.5, min_crop, max_crops, "pad")
        vectors.append(
            vector(f"{width} x {height}, past the edge", inputs, boxes, source=GEMMA_PYTORCH, tolerance=PIXELS)
        )
    wrong((640, 480), ("ThresholdOneAndHalf", "crops from 1.5 on", {"activates": lambda ratio: ratio >= 1.5}))
    wrong((1200, 1000), ("RatioInclusive", "no crops at exactly 1.2", {"activates": lambda ratio: ratio > 1.2}))
    wrong((1001, 400), ("SizeRoundedDown", "strips of floor(side / n)", {"size": math.floor}))
    wrong(
        (2500, 1000),
        ("HalfRoundsUp", "2.5 rounded to even", {"nearest": round}),
        ("PortraitSwap", "cut along the shorter side", {"swap": True}),
        ("LastCropOverruns", "past the edge", {"clip": False}),
    )
    wrong((2499, 1000), ("RatioRoundedUp", "2.499 to 3", {"nearest": math.ceil}))
    wrong((511, 400), ("MinCropOnLast", "256 asked of the last strip", {"fits": lambda size, last, short: last >= 256}))
    wrong((511, 400), ("ClampOrder", "at least 2, then floor(side / 256)",
                       {"clamp": lambda n, most: min(4, max(2, n), max(most, 1))}))  # fmt: skip
    wrong((3000, 500), ("MaxCropsMissing", "six crops", {"clamp": lambda n, most: max(2, min(most, n))}))
    wrong((1000, 2500), ("PortraitSwap", "cut along the shorter side", {"swap": True}))
    wrong((1001, 400), ("LastCropClipped", "cut at the edge", {}), min_ratio=1.5, past_edge="pad")
    return {
        "description": "Boxes y0, x0, y1, x1, half-open, of an image's crops, the whole image not among them: the "
        "longer side in n strips of ceil(side / n), n the ratio of the sides rounded half up, at most "
        "floor(side / min_crop), then at least 2, then at most max_crops; none below min_ratio or where a strip or the "
        "shorter side is less than min_crop. The last strip is cut at the edge (clip) or reaches past it (pad).",
        "axes": {"expected": "crops, then y0 x0 y1 x1"},
        "flags": {
            "ThresholdOneAndHalf": flag("wrong constant", "1.5 is gemma_pytorch's.", "No crops of 4:3 pictures."),
            "RatioInclusive": flag("off by one", "The ratio itself activates.", "No crops at exactly 1.2."),
            "SizeRoundedDown": flag("wrong rounding", "Strips are rounded up.", "Pixels at the far edge are lost."),
            "HalfRoundsUp": flag("wrong rounding", "Python's round goes to even.", "One crop less at 2.5 and 4.5."),
            "RatioRoundedUp": flag("wrong rounding", "The ratio is rounded to the nearest.", "One crop more."),
            "PortraitSwap": flag("swapped axes", "The longer side is cut.", "Strips more elongated than the image."),
            "LastCropOverruns": flag("other convention", "Clipped by transformers.", "Black rim on the last crop."),
            "LastCropClipped": flag("other convention", "Filled with black by gemma_pytorch.", "Last crop stretched."),
            "MinCropOnLast": flag("wrong scope", "min_crop is asked of the nominal size.", "No crops of 511 x 400."),
            "ClampOrder": flag("wrong order", "At least 2 comes after floor(side / min_crop).", "One crop or none."),
            "MaxCropsMissing": flag("missing step", "At most max_crops.", "More tokens than planned."),
        },
        "vectors": vectors,
    }
