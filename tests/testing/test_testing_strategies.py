"""What the strategies draw: every feature, and only layouts and sizes that there can be."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from ref.config import CROPS, CropConfig
from ref.errors import BadInput
from ref.mutants.visibility_parts import real_rows
from ref.ops.pan_and_scan import count_crops
from ref.ops.visibility import COMPOSITIONS, image_blocks
from ref.testing.strategies import FEATURES, edge_sizes, image_sizes, layouts

SHRINK = settings(database=None, max_examples=2000, suppress_health_check=list(HealthCheck))
DRAW = settings(database=None, max_examples=500, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))


def longest_block(layout):
    blocks = image_blocks(layout.soft[None], layout.first[None], layout.start)[0]
    return int((blocks[:, 1] - blocks[:, 0]).max())


HAS = {
    "images": lambda x: bool(x.soft.any()),
    "long-images": lambda x: longest_block(x) > x.local_window,
    "pads": lambda x: not real_rows(x).all(),
    "packed": lambda x: len(np.unique(x.first)) > 1,
    "cached": lambda x: x.start > 0,
    "local": lambda x: x.window is not None,
    "global": lambda x: x.window is None,
}


@given(layout=layouts())
def test_layouts_are_possible(layout):
    T = len(layout.soft)
    assert T >= 1
    assert layout.soft.shape == layout.first.shape == (T,)
    assert (layout.soft.dtype, layout.first.dtype) == (bool, np.int64)
    assert (np.diff(layout.first) >= 0).all()
    assert real_rows(layout).any()
    assert not layout.soft[~real_rows(layout)].any()
    begins = layout.first[1:] != layout.first[:-1]
    assert (layout.first[1:][begins] == layout.start + 1 + np.flatnonzero(begins)).all()
    assert not layout.soft[1:][begins].any()  # no prompt begins inside an image
    assert layout.window in (None, layout.local_window)
    assert layout.composition == "current"
    assert T + layout.start <= 50


def test_features_are_the_ones_that_can_be_left_out():
    assert set(HAS) == set(FEATURES)


@pytest.fixture(scope="module")
def drawn():
    """Return 500 layouts of every feature."""
    seen = []

    @DRAW
    @given(layout=layouts())
    def draw(layout):
        seen.append(layout)

    draw()
    return seen


@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_is_drawn_and_can_be_left_out(feature, drawn):
    assert 0.1 < np.mean([HAS[feature](layout) for layout in drawn]) < 0.9

    @DRAW
    @given(layout=layouts(without=[feature]))
    def never(layout):
        assert not HAS[feature](layout)

    never()


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_windows_and_composition_are_as_asked(composition):
    @settings(max_examples=50)
    @given(layout=layouts(windows=(7, 512), composition=composition))
    def draw(layout):
        assert layout.local_window in (7, 512)
        assert layout.composition == composition

    draw()


@pytest.mark.parametrize(
    ("feature", "wanted"),
    [
        ("images", ([True], [0], 0, None)),
        ("pads", ([False, False], [1, 1], 0, None)),
        ("packed", ([False, False], [0, 1], 0, None)),
        ("cached", ([False], [0], 1, None)),
        ("local", ([False], [0], 0, 2)),
        ("global", ([False], [0], 0, None)),
        ("long-images", ([True] * 3, [0] * 3, 0, None)),
    ],
)
def test_it_shrinks_to_the_least_that_has_a_feature(feature, wanted):
    least = find(layouts(), HAS[feature], settings=SHRINK)
    assert (least.soft.tolist(), least.first.tolist(), least.start, least.window) == wanted
    assert least.local_window == 2


@pytest.mark.parametrize("without", [["image"], ["local", "global"], [3]])
def test_unknown_features_are_refused(without):
    with pytest.raises(BadInput, match="layouts: without: wanted "):
        layouts(without=without)


# --- sizes of images ------------------------------------------------------------------------------------------------


ODD = CropConfig("odd", 1.37, min_crop=50, max_crops=3)
settings_of = pytest.mark.parametrize("crops", [*CROPS.values(), ODD], ids=lambda crops: crops.name)


def count_of(crops, longer, shorter):
    return count_crops(longer, shorter, crops.min_ratio, crops.min_crop, crops.max_crops)


@settings_of
def test_known_sizes_lie_on_both_sides_of_every_threshold(crops):
    """Found by asking about every longer side, not by the formulas that placed them."""
    sizes = set(edge_sizes(crops))
    assert sizes == {size[::-1] for size in sizes}
    first = []
    for shorter in {height for width, height in sizes if width >= height >= crops.min_crop and width > 2 * height}:
        counts = [count_of(crops, longer, shorter) for longer in range(6 * shorter)]
        changes = [n for n in range(shorter + 1, len(counts)) if counts[n] != counts[n - 1]]
        assert len(changes) >= crops.max_crops - 1
        assert {(n - back, shorter) for n in changes for back in (0, 1)} <= sizes
        first += [(changes[0] - 1) / shorter < crops.min_ratio <= changes[0] / shorter]
    assert any(first)  # somewhere it is the ratio that decides


def test_known_sizes_have_the_ratio_exactly_where_there_is_such_a_size():
    for crops, size in zip(CROPS.values(), [(516, 430), (513, 342)], strict=True):
        assert {size, size[::-1]} <= set(edge_sizes(crops))
        assert size[0] / size[1] == crops.min_ratio


@settings_of
def test_known_sizes_ask_whether_the_shorter_side_may_be_too_small(crops):
    near = [size for size in edge_sizes(crops) if min(size) == crops.min_crop - 1]
    assert any(max(size) / min(size) >= crops.min_ratio for size in near)
    assert not any(count_of(crops, max(size), min(size)) for size in near)


@settings_of
def test_sizes_are_drawn_on_both_sides_of_the_thresholds(crops):
    """Whatever the seed: a third of all is at the ratio, so that a few of hundreds are there always."""
    counts, near, exact = [], [], []

    @DRAW
    @given(size=image_sizes(crops))
    def draw(size):
        assert 1 <= min(size) <= max(size) <= 5000
        longer, shorter = max(size), min(size)
        counts.append((size[0] >= size[1], count_of(crops, longer, shorter)))
        exact.append(longer / shorter == crops.min_ratio)
        near.append((longer / shorter < crops.min_ratio) != ((longer + 1) / shorter < crops.min_ratio))

    draw()
    assert {(wide, n) for wide in (True, False) for n in (0, *range(2, crops.max_crops + 1))} <= set(counts)
    assert sum(near) >= 10  # one pixel below the ratio
    assert sum(exact) >= (0 if crops is ODD else 10)


@given(data=st.data(), largest=st.integers(1, 300))
def test_no_side_is_larger_than_asked(data, largest):
    assert max(data.draw(image_sizes(largest=largest))) <= largest


def test_sizes_shrink():
    """To the least by each side: wherever it began, no other way of drawing holds it back."""
    crops = CROPS["transformers"]
    least = find(image_sizes(), lambda size: count_of(crops, max(size), min(size)) == 4, settings=SHRINK)
    assert max(least) < 1500
    assert crops.min_crop <= min(least) < 500
