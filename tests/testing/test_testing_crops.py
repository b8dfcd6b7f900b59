"""`check_pan_and_scan`: right crops pass, each known mistake is caught and named."""

import re

import numpy as np
import pytest
from support import naive_images
from support.rules import Tensor

from ref.config import CROPS
from ref.errors import BadInput
from ref.mutants.crops import CROP_MUTANTS
from ref.testing import check_pan_and_scan


def oracle(policy, **changed):
    _, *settings = CROPS[policy]._replace(**changed)
    return lambda width, height: naive_images.crop_boxes(height, width, *settings)


@pytest.mark.parametrize("policy", CROPS)
def test_right_crops_pass(policy):
    assert check_pan_and_scan(oracle(policy), policy=policy).cases > 300
    check_pan_and_scan(lambda w, h: np.array(oracle(policy)(w, h), float), policy=CROPS[policy], examples=50)
    check_pan_and_scan(lambda w, h: Tensor(oracle(policy)(w, h)), policy=CROPS[policy], examples=50)


WRONG_CROPS = {
    "threshold 1.5": oracle("transformers", min_ratio=1.5),
    "black past the edge": oracle("transformers", past_edge="pad"),
    "min_crop 255": oracle("transformers", min_crop=255),
    "min_crop 257": oracle("transformers", min_crop=257),
    "max_crops 3": oracle("transformers", max_crops=3),
    "max_crops 5": oracle("transformers", max_crops=5),
    "exactly the ratio does not count": lambda w, h: [] if 5 * w == 6 * h else oracle("transformers")(w, h),
    "mirrored": lambda w, h: [[x0, y0, x1, y1] for y0, x0, y1, x1 in oracle("transformers")(w, h)],
    "backwards": lambda w, h: oracle("transformers")(w, h)[::-1],
    "with the whole": lambda w, h: [[0, 0, h, w], *oracle("transformers")(w, h)],
}


@pytest.mark.parametrize("name", WRONG_CROPS)
def test_wrong_crops_are_caught(name):
    with pytest.raises(AssertionError, match="pan and scan: wrong on "):
        check_pan_and_scan(WRONG_CROPS[name])


EAGER = CROPS["transformers"]._replace(name="eager", min_ratio=0.3, min_crop=32, max_crops=8)  # squares are cut too


@pytest.mark.parametrize("mutant", CROP_MUTANTS, ids=lambda m: m.name)
def test_every_known_mistake_in_crops_is_caught_and_named(mutant):
    for crops in (*CROPS.values(), EAGER):
        try:
            check_pan_and_scan(lambda w, h, crops=crops: mutant.run(w, h, crops), policy=crops)
        except AssertionError as error:
            named = [line for line in str(error).splitlines() if line.startswith("as if: ")]
            assert f"as if: {mutant.name}: {mutant.what}" in named
            return
    pytest.fail("no policy shows it")


def test_crops_are_drawn_beside_each_other():
    with pytest.raises(AssertionError) as caught:
        check_pan_and_scan(lambda w, h: oracle("transformers")(w, h)[:1])
    lines = str(caught.value).splitlines()
    assert lines[1].endswith(" pixels")
    assert lines[2].startswith('  asked: {"width": ')
    assert lines[4].split() == ["expected", "|", "got"]
    picture = [line.split("|") for line in lines[5:] if re.fullmatch(r" *[01]+ +\| [0.]+", line)]
    left, right_half = ("".join(half).replace(" ", "") for half in zip(*picture, strict=True))
    assert set(left) == {"0", "1"}  # one below or beside the other, as the image lies
    assert set(right_half) == {"0", "."}
    assert len(lines) < 24


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "it gave NoneType None"),
        ([[0, 0, 1]], r"it gave shape \[1, 3\], wanted boxes \[n, 4\]"),
        ([0, 0, 1, 1], r"it gave shape \[4\], wanted boxes"),
        ([[0, 0, 1, 0.5]], "wanted whole numbers"),
        ([[0, 0, 1, np.nan]], "wanted whole numbers"),
        ([[0, 0, 1, 10**30]], "wanted numbers or booleans"),
        ([[True, False, True, True]], "wanted whole numbers"),
        ({"boxes": []}, "it gave dict"),
        ([[0, 0, 1, 1], [0, 0]], "it gave what is no array"),
    ],
)
def test_malformed_boxes_are_reported_with_the_size(answer, message):
    with pytest.raises(AssertionError, match=message):
        check_pan_and_scan(lambda width, height: answer, examples=20)


@pytest.mark.parametrize("settings", [{"min_ratio": np.nan}, {"min_ratio": 0.0}, {"min_crop": 0}, {"max_crops": 0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(BadInput, match="policy: wanted min_crop and max_crops of 1 or more, a finite min_r"):
        check_pan_and_scan(oracle("transformers"), policy=CROPS["transformers"]._replace(**settings))


def test_an_unknown_policy_is_refused():
    with pytest.raises(BadInput, match="policy: wanted transformers gemma_pytorch, got hf"):
        check_pan_and_scan(oracle("transformers"), policy="hf")


@pytest.mark.witness
def test_the_crops_of_transformers_pass():
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    def crops(width, height):
        ys, xs = np.arange(height)[:, None], np.arange(width)[None]
        place = np.stack(np.broadcast_arrays(ys, xs))
        found = Gemma3ImageProcessorPil().pan_and_scan(place, 256, 4, 1.2)
        return [[*crop[:, 0, 0], *(crop[:, -1, -1] + 1)] for crop in found]

    check_pan_and_scan(crops, examples=100)
    with pytest.raises(AssertionError, match="pan and scan: wrong on"):
        check_pan_and_scan(crops, policy="gemma_pytorch", examples=50)
