"""`check_visibility` and `check_pan_and_scan`: right rules of any form pass, each known mistake is caught and named."""

import functools
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import naive, naive_images
from support.luck import LUCK

from ref.config import CROPS
from ref.errors import BadInput
from ref.mutants.crops import CROP_MUTANTS
from ref.mutants.visibility import VISIBILITY_MUTANTS, Layout, visible
from ref.ops.visibility import COMPOSITIONS, image_blocks, visible_ranges
from ref.testing import check_pan_and_scan, check_visibility


def right(soft, first, start, window):
    return visible(Layout(soft, first, start, window))


def brute_force(prompts, soft, start, window):
    """The oracle of our own tests, one cell at a time, told what a foreign function is told."""
    names = [None if name < 0 else int(name) for name in prompts]
    row = [False] * start + soft.tolist()
    return naive.visibility_with_images(names, row, window, "current")[start:]


def ranges(soft, first, start, window):
    blocks = image_blocks(soft[None], first[None], start)
    return visible_ranges(first[None], start, window, blocks)[0]


class Tensor:
    """As an array of another library: not ours, but NumPy can read it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


FORMS = {
    "lists": lambda **told: right(**told).tolist(),
    "numbers": lambda **told: right(**told).astype(int),
    "floats": lambda **told: right(**told).astype(np.float32),
    "strings": lambda **told: ["".join("01"[int(cell)] for cell in row) for row in right(**told)],
    "ranges": ranges,
    "lists of ranges": lambda **told: ranges(**told).tolist(),
    "additive": lambda **told: np.where(right(**told), 0.0, -np.inf),
    "additive, finite": lambda **told: np.where(right(**told), 0.0, np.finfo(np.float32).min),
    "with leading axes": lambda **told: right(**told)[None, None],
    "of another library": lambda **told: Tensor(right(**told)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_right_rule_passes_whatever_its_answers_look_like(form):
    def fn(soft, first, start, window):
        return FORMS[form](soft=soft, first=first, start=start, window=window)

    assert check_visibility(fn, examples=100).not_asked == ()


def test_the_oracle_passes_so_what_is_told_is_enough_and_true():
    checked = check_visibility(brute_force)
    assert checked.cases > 200
    assert checked.not_asked == ()


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_compositions(composition):
    def fn(soft, first, start, window):
        return visible(Layout(soft, first, start, window, composition))

    check_visibility(fn, composition=composition)
    check_visibility(fn, without=["long-images"])  # where no block is longer than the window they are one
    for other in COMPOSITIONS:
        if other != composition:
            with pytest.raises(AssertionError, match=f"as if: composition_{composition}: "):
                check_visibility(fn, composition=other)


@pytest.mark.parametrize("mutant", VISIBILITY_MUTANTS, ids=lambda m: m.name)
def test_every_mistake_is_caught_and_named_alone(mutant):
    composition = "two_sided" if mutant.name == "composition_current" else "current"

    def fn(soft, first, start, window, local_window):
        return mutant.run(Layout(soft, first, start, window, composition, local_window))

    with pytest.raises(AssertionError) as caught:
        check_visibility(fn, composition=composition)
    named = [line for line in str(caught.value).splitlines() if line.startswith("as if: ")]
    assert named == [f"as if: {mutant.name}: {mutant.what}"]


def off_by_one(soft, first, start, window):
    return visible(Layout(soft, first, start, window and window + 1))


def test_the_counterexample_is_shrunk_and_drawn():
    with pytest.raises(AssertionError) as caught:
        check_visibility(off_by_one)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("visibility: wrong on ")
    assert lines[1] == "  local layer, window 2; 3 tokens"
    assert lines[2].startswith('  asked: {"soft": [0, 0, 0], "first": [0, 0, 0], "start": 0, "window": 2, "keys": 3, ')
    assert lines[4:12] == [
        "         expected   got",
        "  key    0 1 2   0 1 2",
        "         t t t   t t t",
        "    0 t  x . . | x . .",
        "    1 t  x x . | x x .",
        "    2 t  . x x | X x x",
        "  X seen, but must not be; o must be seen, but is not",
        "  t text",
    ]
    assert lines[13].startswith("as if: window_plus_one: a local layer sees W keys besides")
    assert lines[14].startswith("  source: mlx-lm before PR 390")


def test_pictures_of_pads_images_packed_prompts_and_the_cache():
    def wrong(soft, first, start, window):  # only where all of them come together
        out = right(soft, first, start, window)
        if first[0] and start > first[0] and soft.any() and first[-1] > first[0] and len(soft) > 1:
            out[-1, -1] = False
        return out

    with pytest.raises(AssertionError) as caught:
        check_visibility(wrong, examples=600)
    text = str(caught.value)
    assert "I image, ' text that begins another prompt, c cached, - cached, but not of this prompt" in text
    assert "as no known mistake: none answers every input as this did" in text
    assert " o\n" in text


def test_the_same_seed_asks_the_same():
    seen = []
    for seed in (3, 3, 4):
        asked = []

        def fn(soft, first, start, window, asked=asked):
            asked.append((soft.tobytes(), start, window))
            return right(soft, first, start, window)

        check_visibility(fn, examples=60, seed=seed)
        seen.append(asked)
    assert seen[0] == seen[1] != seen[2]


def test_large_windows_are_met_and_only_the_place_of_the_mistake_is_drawn():
    check_visibility(right, windows=[512], examples=60)
    with pytest.raises(AssertionError, match=r"\(only rows [0-9]+ to [0-9]+ of 51[3-9] and keys ") as caught:
        check_visibility(off_by_one, windows=[512], examples=60)
    assert "as if: window_plus_one" in str(caught.value)
    assert max(map(len, str(caught.value).splitlines()[4:])) < 130


def hardwired(soft, first, start, window):
    """A window that the code has for itself."""
    return visible(Layout(soft, first, start, window and 512))


def test_a_hardwired_window_is_seen_where_windows_differ_from_it():
    check_visibility(hardwired, windows=[512], examples=60)
    with pytest.raises(AssertionError, match="as if: window_ignored"):
        check_visibility(hardwired)


# --- what a function takes ------------------------------------------------------------------------------------------


def test_what_it_takes_no_argument_for_is_not_asked():
    checked = check_visibility(lambda start, keys: np.tril(np.ones((keys, keys), bool))[start:])
    assert checked.not_asked == ("images", "local", "packed", "pads")
    checked = check_visibility(lambda keys, pads: np.tril(np.ones((keys, keys)))[:, :] * (np.arange(keys) >= pads),
                               without=["cached"])  # fmt: skip
    assert checked.not_asked == ("cached", "images", "local", "packed")
    with pytest.raises(AssertionError, match="as if: image_causal"):
        check_visibility(lambda soft, start, keys: np.tril(np.ones((keys, keys), bool))[start:])


def test_keywords_and_defaults():
    def everything(**told):
        assert set(told) == {"soft", "first", "start", "window", "keys", "pads", "prompts", "positions", "local_window"}
        assert len(told["prompts"]) == told["keys"] == told["start"] + len(told["soft"])
        real = told["start"] + np.arange(len(told["soft"])) >= told["first"]
        expected = told["start"] + np.arange(len(told["soft"])) - told["first"]
        np.testing.assert_array_equal(told["positions"][real], expected[real])
        assert (told["prompts"][told["start"] :] < 0).tolist() == (~real).tolist()
        return right(told["soft"], told["first"], told["start"], told["window"])

    assert check_visibility(everything).not_asked == ()
    check_visibility(lambda soft, first, start, window, extra=3: right(soft, first, start, window), examples=30)


@pytest.mark.parametrize(
    ("fn", "got"),
    [(lambda mask: mask, "got mask"), (lambda soft, /: soft, "got soft"), (print, ""), (dict.fromkeys, "")],
)
def test_a_function_that_wants_something_else_is_refused(fn, got):
    if fn is print:  # takes *values: nothing is told, so nothing is right
        with pytest.raises(AssertionError):
            check_visibility(fn, examples=20)
        return
    with pytest.raises(BadInput, match=r"check_visibility: .*" + got):
        check_visibility(fn)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"without": ["image"]}, "without: wanted images long-images"),
        ({"without": ["local", "global"]}, "one kind of layer left"),
        ({"composition": "or"}, "composition: wanted current"),
        ({"windows": []}, "windows: wanted at least one"),
        ({"windows": [0]}, "windows: wanted at least one"),
    ],
)
def test_settings_are_refused(wrong, message):
    with pytest.raises(BadInput, match=message):
        check_visibility(right, **wrong)


# --- answers that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda m: m[:, :-1], r"it gave shape \[\d+, \d+\], wanted a matrix \[T, S\]"),
        (lambda m: m[0], r"it gave shape \[\d+\], wanted a matrix"),
        (lambda m: np.stack([m, m]), r"it gave shape \[2, \d+, \d+\], wanted a matrix"),
        (lambda m: None, "it gave NoneType None, wanted numbers or booleans"),
        (lambda m: "no", "it gave str 'no', wanted numbers or booleans"),
        (lambda m: ["xx", "."], "it gave list .*, wanted numbers or booleans"),
        (lambda m: [[1], [1, 0]], "it gave what is no array: ValueError"),
        (lambda m: m + 7, r"it gave \d at row 0, key 0, wanted 0 or 1"),
        (lambda m: np.where(m, np.nan, 0), "it gave nan at row 0, key 0, wanted 0 or 1"),
        (lambda m: np.where(m, 0.0, -1.0), "it gave -1.0 at row 0, key 1, wanted 0 or at most -1000"),
        (lambda m: m.astype(complex), "wanted numbers or booleans"),
    ],
)
def test_malformed_answers_are_reported_with_the_input(answer, message):
    with pytest.raises(AssertionError, match=message) as caught:
        check_visibility(lambda soft, first, start, window: answer(right(soft, first, start, window)), examples=50)
    assert "asked: {" in str(caught.value)
    assert "got  " not in str(caught.value)


def test_ranges_must_be_whole_numbers():
    with pytest.raises(AssertionError, match="gave ranges of float64, wanted integers"):
        check_visibility(
            lambda soft, first, start, window: ranges(soft, first, start, window) * (1.0 if start else 1), examples=50
        )


def test_what_is_raised_is_the_failure_and_its_cause():
    def fn(soft, first, start, window):
        if soft.sum() >= 2:
            raise IndexError("image table\nof one")
        return right(soft, first, start, window)

    with pytest.raises(AssertionError, match="it raised IndexError: image table of one") as caught:
        check_visibility(fn)
    assert isinstance(caught.value.__cause__, IndexError)
    assert '"soft": [1, 1], ' in str(caught.value)  # shrunk


@pytest.mark.parametrize("error", [ValueError("no"), BadInput("no"), RecursionError("no")])
def test_a_function_that_always_raises(error):
    def fn(soft, first, start, window):
        raise error

    with pytest.raises(AssertionError, match=f"it raised {type(error).__name__}: no"):
        check_visibility(fn, examples=20)


def test_a_function_that_answers_differently_each_time_is_caught():
    calls = []

    def fn(soft, first, start, window):
        calls.append(1)
        out = right(soft, first, start, window)
        return ~out if len(calls) % 7 == 0 else out

    with pytest.raises(AssertionError, match="visibility: wrong on"):
        check_visibility(fn)


@settings(max_examples=2, suppress_health_check=[*LUCK, HealthCheck.nested_given])
@given(window=st.integers(2, 4))
def test_inside_a_property_test_of_the_users_own(window):
    check_visibility(right, windows=[window], examples=20)


def test_interrupting_ends_it():
    def fn(soft, first, start, window):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_visibility(fn)


# --- pan and scan ---------------------------------------------------------------------------------------------------


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


# --- other implementations ------------------------------------------------------------------------------------------


@pytest.mark.witness
def test_the_masks_of_transformers_pass():
    import torch
    from transformers import Gemma3Config, Gemma3Model

    text = {
        "vocab_size": 64, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 4, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    vision = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 4,
        "patch_size": 2, "vision_use_head": False, "model_type": "siglip_vision_model",
    }  # fmt: skip
    seen = []

    def note(_module, _args, kwargs):
        seen.append(kwargs["attention_mask"][0, 0] == 0)

    @functools.cache
    def model(window):
        config = Gemma3Config(text_config=text | {"sliding_window": window}, vision_config=vision, image_token_index=50)
        config._attn_implementation = "eager"
        out = Gemma3Model(config).eval()
        for layer in out.language_model.layers:
            layer.self_attn.register_forward_pre_hook(note, with_kwargs=True)
        return out

    def masks(soft, pads, keys, window, local_window):
        seen.clear()
        places = torch.tensor(soft)[None]
        real = torch.arange(keys)[None] >= pads
        ids = torch.where(places, 50, 1) * real
        with torch.inference_mode():
            model(local_window)(
                input_ids=ids, attention_mask=real.long(), token_type_ids=places.long(), use_cache=False
            )
        return seen[window is None]

    checked = check_visibility(masks, without=["cached"], examples=100)
    assert checked.not_asked == ("cached", "packed")
    with pytest.raises(AssertionError, match="as if: composition_current: "):
        check_visibility(masks, without=["cached"], composition="before_46850", examples=100)


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
