"""Vectors of the boxes of Pan & Scan."""

import math

import numpy as np
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from vectors_form import TRANSFORMERS, flag, mistakes, vector

GEMMA_PYTORCH = "google/gemma_pytorch"
PIXELS = {"atol": 0.0, "rtol": 0.0, "basis": "exact: pixels"}


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
    wrong((640, 480), ("crops_threshold_1.5", "crops from 1.5 on", {"activates": lambda ratio: ratio >= 1.5}))
    wrong((1200, 1000), ("crops_ratio_exclusive", "no crops at exactly 1.2", {"activates": lambda ratio: ratio > 1.2}))
    wrong((1001, 400), ("crops_size_rounded_down", "strips of floor(side / n)", {"size": math.floor}))
    wrong(
        (2500, 1000),
        ("crops_half_even", "2.5 rounded to even", {"nearest": round}),
        ("PortraitSwap", "cut along the shorter side", {"swap": True}),
        ("crops_past_edge", "past the edge", {"clip": False}),
    )
    wrong((2499, 1000), ("crops_ratio_rounded_up", "2.499 to 3", {"nearest": math.ceil}))
    wrong(
        (511, 400),
        ("crops_min_on_last", "256 asked of the last strip", {"fits": lambda size, last, short: last >= 256}),
    )
    wrong((511, 400), ("crops_clamp_order", "at least 2, then floor(side / 256)",
                       {"clamp": lambda n, most: min(4, max(2, n), max(most, 1))}))  # fmt: skip
    wrong((3000, 500), ("crops_max_ignored", "six crops", {"clamp": lambda n, most: max(2, min(most, n))}))
    wrong((1000, 2500), ("PortraitSwap", "cut along the shorter side", {"swap": True}))
    wrong((1001, 400), ("crops_clipped", "cut at the edge", {}), min_ratio=1.5, past_edge="pad")
    return {
        "description": "Boxes y0, x0, y1, x1, half-open, of an image's crops, the whole image not among them: the "
        "longer side in n strips of ceil(side / n), n the ratio of the sides rounded half up, at most "
        "floor(side / min_crop), then at least 2, then at most max_crops; none below min_ratio or where a strip or the "
        "shorter side is less than min_crop. The last strip is cut at the edge (clip) or reaches past it (pad).",
        "axes": {"expected": "crops, then y0 x0 y1 x1"},
        "flags": {
            "crops_threshold_1.5": flag("wrong constant", "1.5 is gemma_pytorch's.", "No crops of 4:3 pictures."),
            "crops_ratio_exclusive": flag("off by one", "The ratio itself activates.", "No crops at exactly 1.2."),
            "crops_size_rounded_down": flag(
                "wrong rounding", "Strips are rounded up.", "Pixels at the far edge are lost."
            ),
            "crops_half_even": flag("wrong rounding", "Python's round goes to even.", "One crop less at 2.5 and 4.5."),
            "crops_ratio_rounded_up": flag("wrong rounding", "The ratio is rounded to the nearest.", "One crop more."),
            "PortraitSwap": flag("swapped axes", "The longer side is cut.", "Strips more elongated than the image."),
            "crops_past_edge": flag("other convention", "Clipped by transformers.", "Black rim on the last crop."),
            "crops_clipped": flag("other convention", "Filled with black by gemma_pytorch.", "Last crop stretched."),
            "crops_min_on_last": flag(
                "wrong scope", "min_crop is asked of the nominal size.", "No crops of 511 x 400."
            ),
            "crops_clamp_order": flag(
                "wrong order", "At least 2 comes after floor(side / min_crop).", "One crop or none."
            ),
            "crops_max_ignored": flag("missing step", "At most max_crops.", "More tokens than planned."),
        },
        "vectors": vectors,
    }
