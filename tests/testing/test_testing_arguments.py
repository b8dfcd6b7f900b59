"""`check_visibility`: what a function takes, answers and raises, and settings that cannot be."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.luck import LUCK
from support.rules import right

from ref.errors import BadInput
from ref.testing import check_visibility


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
