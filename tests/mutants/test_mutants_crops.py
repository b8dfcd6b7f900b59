"""Mistakes in Pan & Scan: each shows where it says it does, box by box, nowhere else, and some golden catches it."""

import json
import math
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ref.config import CROPS, CropConfig
from ref.golden_files.files import golden_root
from ref.mutants.crops import _RULE, CROP_MUTANTS, _cut
from ref.ops.pan_and_scan import crop_boxes
from ref.testing.catches.crops import crop_goldens, kills

MUTANTS = {mutant.name: mutant for mutant in CROP_MUTANTS}
HF, PAD = CROPS["transformers"], CROPS["gemma_pytorch"]
LOW, FEW = HF._replace(min_ratio=0.3), HF._replace(max_crops=2)


def truth(width, height, crops):
    return crop_boxes(
        height, width, crops.min_ratio, crops.min_crop, crops.max_crops, crops.past_edge == "clip"
    ).tolist()


def columns(height, *places):
    return [[0, start, height, stop] for start, stop in pairwise(places)]


def rows(width, *places):
    return [[start, 0, stop, width] for start, stop in pairwise(places)]


# name: width, height, settings; right boxes; the mutant's, by hand
SHOWN = {
    "crops_threshold_1.5": (640, 480, HF, columns(480, 0, 320, 640), []),
    "crops_threshold_1.2": (640, 480, PAD, [], columns(480, 0, 320, 640)),
    "crops_ratio_exclusive": (1200, 1000, HF, columns(1000, 0, 600, 1200), []),
    "crops_portrait_never": (300, 600, HF, rows(300, 0, 300, 600), []),
    "crops_half_even": (2500, 1000, HF, columns(1000, 0, 834, 1668, 2500), columns(1000, 0, 1250, 2500)),
    "crops_ratio_rounded_down": (2700, 1000, HF, columns(1000, 0, 900, 1800, 2700), columns(1000, 0, 1350, 2700)),
    "crops_ratio_rounded_up": (2100, 1000, HF, columns(1000, 0, 1050, 2100), columns(1000, 0, 700, 1400, 2100)),
    "crops_clamp_order": (511, 400, HF, columns(400, 0, 256, 511), columns(400, 0, 511)),
    "crops_fitting_ignored": (767, 256, HF, columns(256, 0, 384, 767), columns(256, 0, 256, 512, 767)),
    "crops_max_ignored": (900, 300, FEW, columns(300, 0, 450, 900), columns(300, 0, 300, 600, 900)),
    "crops_min_on_last": (511, 400, HF, columns(400, 0, 256, 511), []),
    "crops_min_unchecked": (600, 255, HF, [], columns(255, 0, 300, 600)),
    "crops_size_rounded_down": (1001, 400, HF, columns(400, 0, 334, 668, 1001), columns(400, 0, 333, 666, 999)),
    "crops_shorter_side_cut": (1200, 600, HF, columns(600, 0, 600, 1200), rows(1200, 0, 300, 600)),
    "crops_square_as_portrait": (640, 640, LOW, columns(640, 0, 320, 640), rows(640, 0, 320, 640)),
    "crops_xy_swapped": (600, 300, HF, columns(300, 0, 300, 600), [[0, 0, 300, 300], [300, 0, 600, 300]]),
    "crops_past_edge": (1001, 400, HF, columns(400, 0, 334, 668, 1001), columns(400, 0, 334, 668, 1002)),
    "crops_clipped": (1001, 400, PAD, columns(400, 0, 334, 668, 1002), columns(400, 0, 334, 668, 1001)),
    "crops_whole_first": (600, 300, HF, columns(300, 0, 300, 600), [[0, 0, 300, 600], *columns(300, 0, 300, 600)]),
    "crops_whole_last": (600, 300, HF, columns(300, 0, 300, 600), [*columns(300, 0, 300, 600), [0, 0, 300, 600]]),
    "crops_whole_when_none": (300, 300, HF, [], [[0, 0, 300, 300]]),
}  # fmt: skip


class Asked:
    """An image size and settings, and what can be said of them in fractions."""

    def __init__(self, width, height, crops):
        self.width, self.height, self.crops = width, height, crops
        self.longer, self.shorter = max(width, height), min(width, height)
        self.ratio = Fraction(self.longer, self.shorter)
        self.rounded = math.floor(self.ratio + Fraction(1, 2))
        self.fraction = self.ratio % 1
        self.fitting = self.longer // crops.min_crop
        self.n = min(crops.max_crops, max(2, min(self.rounded, self.fitting)))
        self.cut = bool(truth(width, height, crops))

    def between(self, other):
        low, high = sorted((self.crops.min_ratio, other))
        return low <= self.longer / self.shorter < high


# what `needs` says, as a predicate
NEEDS = {
    "crops_threshold_1.5": lambda a: a.between(1.5),
    "crops_threshold_1.2": lambda a: a.between(1.2),
    "crops_ratio_exclusive": lambda a: a.longer / a.shorter == a.crops.min_ratio,
    "crops_portrait_never": lambda a: a.cut and a.height > a.width,
    "crops_half_even": lambda a: a.fraction == Fraction(1, 2) and int(a.ratio) % 2 == 0,
    "crops_ratio_rounded_down": lambda a: a.ratio >= Fraction(5, 2) and a.fraction >= Fraction(1, 2),
    "crops_ratio_rounded_up": lambda a: a.ratio > 2 and 0 < a.fraction < Fraction(1, 2),
    "crops_clamp_order": lambda a: a.longer < 2 * a.crops.min_crop,
    "crops_fitting_ignored": lambda a: 2 <= a.fitting < a.rounded,
    "crops_max_ignored": lambda a: a.rounded > a.crops.max_crops or a.crops.max_crops == 1,
    "crops_min_on_last": lambda a: a.cut and a.longer - (a.n - 1) * math.ceil(a.longer / a.n) < a.crops.min_crop,
    "crops_min_unchecked": lambda a: min(math.ceil(a.longer / a.n), a.shorter) < a.crops.min_crop,
    "crops_size_rounded_down": lambda a: a.longer % a.n,
    "crops_shorter_side_cut": lambda a: a.cut,
    "crops_square_as_portrait": lambda a: a.width == a.height and a.crops.min_ratio <= 1,
    "crops_xy_swapped": lambda a: a.cut,
    "crops_past_edge": lambda a: a.crops.past_edge == "clip" and a.longer % a.n,
    "crops_clipped": lambda a: a.crops.past_edge == "pad" and a.longer % a.n,
    "crops_whole_first": lambda a: a.cut,
    "crops_whole_last": lambda a: a.cut,
    "crops_whole_when_none": lambda a: not a.cut,
}

sides = st.one_of(st.integers(1, 3000), st.sampled_from([255, 256, 257, 511, 512, 513, 767, 1000, 1200, 1500, 2500]))
policies = st.builds(
    CropConfig,
    st.just("drawn"),
    st.sampled_from([0.3, 1.0, 1.2, 1.5]),
    st.sampled_from([1, 10, 256]),
    st.integers(1, 5),
    st.sampled_from(["clip", "pad"]),
)


def test_each_mistake_is_shown_and_has_a_need():
    assert len(MUTANTS) == len(CROP_MUTANTS)
    assert set(SHOWN) == set(NEEDS) == set(MUTANTS)
    assert all(mutant.name.startswith("crops_") for mutant in CROP_MUTANTS)
    assert all(mutant.what and mutant.needs.words for mutant in CROP_MUTANTS)


@pytest.mark.parametrize("name", MUTANTS)
def test_it_changes_the_boxes_it_must(name):
    *asked, right, wrong = SHOWN[name]
    assert truth(*asked) == right
    assert MUTANTS[name].run(*asked) == wrong
    assert NEEDS[name](Asked(*asked))


@pytest.mark.parametrize("name", MUTANTS)
@given(width=sides, height=sides, crops=policies)
def test_it_changes_nothing_where_its_need_is_not_met(name, width, height, crops):
    if not NEEDS[name](Asked(width, height, crops)):
        assert MUTANTS[name].run(width, height, crops) == truth(width, height, crops)


@given(width=sides, height=sides, crops=policies)
@settings(max_examples=300)
def test_the_parts_compose_to_the_rule(width, height, crops):
    assert _cut(width, height, crops, _RULE) == truth(width, height, crops)


# mistakes written beside the right boxes in the golden; its PortraitSwap, no mutant, keeps the longer side's strips
CONTENT = json.loads((golden_root() / "vectors" / "pan_and_scan.json").read_text())
FLAGS = [flag for flag in CONTENT["flags"] if flag in MUTANTS]


def test_all_but_one_of_the_goldens_flags_are_mutants():
    assert len(FLAGS) == 10
    assert set(CONTENT["flags"]) - set(FLAGS) == {"PortraitSwap"}


@pytest.mark.parametrize("flag", FLAGS)
def test_the_golden_has_the_same_mistake(flag):
    found = [row for row in CONTENT["vectors"] if row["result"] == "must_not" and flag in row["flags"]]
    assert found
    for row in found:
        given = row["inputs"]
        settings = (given[name] for name in ("min_ratio", "min_crop", "max_crops", "past_edge"))
        boxes = MUTANTS[flag].run(given["width"], given["height"], CropConfig("golden", *settings))
        assert boxes == row["expected"]


def test_every_mistake_is_caught_by_a_golden_and_the_rule_by_none():
    goldens = crop_goldens()
    assert len(goldens) > 50
    assert [name for name, (*asked, boxes) in goldens.items() if truth(*asked) != boxes] == []
    caught = kills()
    assert set(caught) == set(MUTANTS)
    assert [name for name, cases in caught.items() if not cases] == []
    assert "pan_and_scan-14" in caught["crops_half_even"]
    assert caught["crops_fitting_ignored"] == ["pan_and_scan-19"]


def test_the_goldens_tell_all_mistakes_apart():
    answers = defaultdict(list)
    for mutant in CROP_MUTANTS:
        answers[str([mutant.run(*asked) for *asked, _ in crop_goldens().values()])].append(mutant.name)
    assert [names for names in answers.values() if len(names) > 1] == []
