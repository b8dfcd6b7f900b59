"""Values beyond a format are the format's: no operation is blamed, and what can be judged is."""

import numpy as np
import pytest
from support.judged import as_dump, cached_passes

import ref
from ref import compare
from ref.measure.overflow import overflow_of
from ref.report.text import render_text
from ref.report.words import verdict_line

HUGE = np.float32(6e4)  # times what an FFN gives: float16 holds the gain, and not all that it makes


@pytest.fixture(scope="module")
def loaded():
    tiny = ref.load("tiny")
    layers = list(tiny.params.layers)
    layers[1] = layers[1]._replace(post_ffn_norm=np.asarray(layers[1].post_ffn_norm) + HUGE)
    return tiny._replace(params=tiny.params._replace(layers=layers))


def judged(loaded, change=lambda taps: taps):
    passes = cached_passes((6,), "float16", loaded=loaded)
    taps = [change(one) for one in passes.taps]
    return compare(as_dump(passes._replace(taps=taps), [list(one) for one in taps]), loaded=loaded)


def test_what_float16_cannot_hold_is_the_formats(loaded):
    report = judged(loaded)
    assert report["verdict"] == "undetermined"
    over = next(row for row in report["taps"] if row["overflow"])
    assert over["tap"] == "text.layer.1.ffn.post_norm"
    assert over["overflow"]["format"] == "float16"
    assert abs(over["overflow"]["truth"]) > 65504
    assert "the format's fault, no operation's" in verdict_line(report)
    assert "float16, which ends at 65,504" in render_text(report)
    before = [row for row in report["taps"] if row["layer"] == 0]
    assert {row["verdict"] for row in before} == {"match"}
    assert not any(row["verdict"] == "bug" for row in report["taps"])


def test_a_nan_that_the_format_does_not_explain_is_a_bug(loaded):
    def spoiled(taps):
        value = taps["text.layer.0.mid"].copy()
        value[0, 2, 3] = np.nan
        return taps | {"text.layer.0.mid": value}

    report = judged(loaded, spoiled)
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == "text.layer.0.mid"


def test_clamping_at_the_largest_number_is_the_formats():
    truth = np.array([[[1.0, 7e4, -9e4]]])
    clamped = np.array([[[1.0, 65504.0, -65504.0]]], np.float32)
    found = overflow_of(clamped, truth, [np.array([[[1.0, np.inf, -np.inf]]])], "float16")
    assert found.format.tolist() == [[[False, True, True]]]
    assert not found.inputs.any()


def test_the_largest_number_where_truth_is_small_is_not():
    truth = np.array([[[1.0, 2.0]]])
    assert overflow_of(np.array([[[1.0, 65504.0]]], np.float32), truth, [truth], "float16") is None
