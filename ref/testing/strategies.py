"""Hypothesis strategies: layouts of tokens with images, pads, packed prompts and cached keys; sizes of images.

Both shrink towards what a person would draw by hand: few tokens, no images, no pads, small windows, small sizes.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ref.config import CROPS, CropConfig
from ref.errors import pip_install, wanted
from ref.mutants.visibility_parts import Layout
from ref.ops.visibility import Composition

try:
    import hypothesis as hypothesis
    from hypothesis import strategies as st
    from hypothesis.configuration import set_hypothesis_home_dir as set_hypothesis_home_dir
    from hypothesis.errors import Flaky as Flaky
except ImportError:
    raise wanted("hypothesis", "ref.testing", pip_install("testing"), "not installed") from None

WINDOWS = (2, 3, 4, 5, 6)
FEATURES = ("images", "long-images", "pads", "packed", "cached", "local", "global")
TEXT, IMAGE, PROMPT = "text", "image", "prompt"  # what a run of tokens is; the last begins a new prompt
PHOTOS = (
    (640, 480), (1024, 768), (1280, 720), (1920, 1080), (3840, 2160), (4032, 3024), (4000, 3000), (6000, 4000),
    (1179, 2556), (896, 896), (1240, 1754), (2500, 1000), (1200, 1000), (511, 400), (4097, 257), (600, 255),
    (3000, 500),
)  # fmt: skip


def check_without(without: Sequence[str]) -> frozenset[str]:
    """Return the features left out of layouts, or refuse a name that is none.

    Args:
        without: names out of FEATURES.

    Raises:
        BadInput: an unknown name, or both kinds of layer left out.
    """
    for name in without:
        if name not in FEATURES:
            raise wanted("without", "layouts", " ".join(FEATURES), name)
    if {"local", "global"} <= set(without):
        raise wanted("without", "layouts", "one kind of layer left", "local and global")
    return frozenset(without)


def layouts(
    *, without: Sequence[str] = (), windows: Sequence[int] = WINDOWS, composition: Composition = "current"
) -> st.SearchStrategy[Layout]:
    """Draw what one layer's attention is told of a batch row: `ref.mutants.visibility_parts.Layout`.

    A row is left pads, then prompts packed one after the other, each of runs of text and soft tokens; a pass is the
    row from some token on, never from inside an image. Runs are as long as the window, give or take one, or up to 8.

    Args:
        without: features left out, of `images`, `long-images` (longer than the window: there the compositions
            differ), `pads`, `packed`, `cached`, `local`, `global`.
        windows: W of local layers, drawn from these; the small ones give pictures that can be read.
        composition: of image block and window, as for `visible_ranges`.

    Raises:
        BadInput: an unknown feature, or no kind of layer left.

    Source: the layouts over which the rule itself is proved, `tests/ops/test_image_visibility.py`.
    Differs: soft tokens never stand first in a packed prompt, as in every official layout of prompts.
    """
    return _layouts(check_without(without), tuple(windows), composition)


@st.composite
def _layouts(draw, without, windows, composition):
    W = draw(st.sampled_from(windows))
    kinds = [kind for kind, name in ((TEXT, ""), (IMAGE, "images"), (PROMPT, "packed")) if name not in without]
    lengths = st.one_of(st.integers(1, 8), st.sampled_from([max(W - 1, 1), W, W + 1]))
    runs = draw(st.lists(st.tuples(st.sampled_from(kinds), lengths), min_size=1, max_size=5))
    pads = 0 if "pads" in without else draw(st.one_of(st.just(0), st.integers(1, 4)))
    soft, first = _row(runs, pads, W if "long-images" in without else None)
    start = 0 if "cached" in without else draw(st.one_of(st.just(0), st.integers(0, len(soft) - 1)))
    while start and soft[start] and soft[start - 1]:  # a pass never begins inside an image
        start -= 1
    is_local = "local" not in without and ("global" in without or draw(st.booleans()))
    return Layout(soft[start:], first[start:], start, W if is_local else None, composition, W)


def _row(runs, pads, longest):
    """Lay runs out behind the pads; with `longest`, text cuts images that are longer."""
    soft, first, begins = [False] * pads, [pads] * pads, pads
    for kind, length in runs:
        begins = len(soft) if kind == PROMPT else begins
        for _ in range(length):
            full = longest is not None and len(soft) >= longest and all(soft[-longest:])
            soft.append(kind == IMAGE and not full)
            first.append(begins)
    return np.array(soft), np.array(first, np.int64)


def crop_edges(shorter: int, crops: CropConfig) -> list[int]:
    """List the longer sides from which on Pan & Scan decides otherwise, for one shorter side.

    Args:
        shorter: side in pixels, at least 1.
        crops: whose thresholds.

    Returns:
        Longer sides, each the first on its far side: of the square, of min_ratio, of ratios whose rounding gives one
        more, of sides that hold one strip of min_crop more, and of sides whose strips are just wide enough. Of many
        strips only the first few and the last are told.
    """
    m, most = crops.min_crop, crops.max_crops
    counts = sorted({*range(1, min(most, 8) + 1), most, most + 1})
    near = math.ceil(min(shorter * crops.min_ratio, 1e9))
    first = next((n for n in (near - 1, near) if n / shorter >= crops.min_ratio), near + 1)  # a float's product may err
    rounded = [((2 * n + 1) * shorter + 1) // 2 for n in counts]
    return [shorter, first, *rounded, *(n * m for n in counts), *(n * (m - 1) + 1 for n in counts)]


def edge_sizes(crops: CropConfig) -> list[tuple[int, int]]:
    """List sizes on both sides of every threshold of Pan & Scan, lying and standing; some have min_ratio exactly.

    Args:
        crops: whose thresholds.

    Returns:
        (width, height) in pixels, the same each time: what `check_pan_and_scan` always asks.
    """
    step, m = _exact_step(crops), crops.min_crop
    least = max(m, math.ceil((2 * m - 1) / crops.min_ratio))  # from here on it is min_ratio that decides, not min_crop
    sizes: list[tuple[int, int]] = []
    for s in (-(-least // step) * step, m, max(m - 1, 1)):
        for edge in crop_edges(s, crops):
            sizes += [(edge - 1, s), (s, edge - 1), (edge, s), (s, edge)]
    return [size for size in dict.fromkeys(sizes) if min(size) > 0]


def _exact_step(crops: CropConfig) -> int:
    """Return what a shorter side must be a multiple of to be able to have min_ratio exactly; 1 where none can."""
    ratio = Fraction(crops.min_ratio).limit_denominator(100)
    return ratio.denominator if ratio.numerator / ratio.denominator == crops.min_ratio else 1


def image_sizes(crops: CropConfig = CROPS["transformers"], largest: int = 5000) -> st.SearchStrategy[tuple[int, int]]:
    """Draw sizes of images, two of three within a pixel of where Pan & Scan changes its mind.

    Half of those are at min_ratio, where implementations differ most: exactly, or a pixel to either side. The others
    are at any threshold, see `crop_edges`.

    Args:
        crops: whose thresholds.
        largest: side in pixels.

    Returns:
        A strategy of (width, height), in pixels.

    Source: `ref.ops.pan_and_scan`.
    """
    step, m = _exact_step(crops), min(crops.min_crop, largest)
    side, offset = st.integers(1, largest), st.sampled_from([0, -1, 1])
    even = st.integers(-(-m // step), max(largest // step, -(-m // step))).map(lambda n: n * step)
    shorter = st.one_of(st.integers(m, 2 * m), st.sampled_from([m, max(m - 1, 1), m + 1]), side)
    at_ratio = st.builds(lambda s, o: (crop_edges(s, crops)[1] + o, s), even, offset)
    kinds = st.integers(0, len(crop_edges(1, crops)) - 1)
    at_edge = st.builds(lambda s, kind, o: (crop_edges(s, crops)[kind] + o, s), shorter, kinds, offset)
    sizes = st.one_of(st.tuples(side, side), at_ratio, at_edge)
    turned = st.builds(lambda size, turn: size[::-1] if turn else size, sizes, st.booleans())
    return turned.map(lambda size: (min(max(size[0], 1), largest), min(max(size[1], 1), largest)))
