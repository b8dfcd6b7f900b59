"""Mistakes of single ranks, planted in plain NumPy on three ranks: a sum, a slice, a gain."""

import numpy as np
import pytest
from support.image_dumps import blocks_of, prompt_with, taps_with_images
from support.judged import captured
from support.ranked import OF, WITH_TOWER, judged_on_ranks, only

from ref.config import VISION
from ref.emulate.graph import RULES
from ref.golden_files.sampled import made_pixels
from ref.ops.linear import widen
from ref.report.text import render_text

K = "text.layer.*.attn.k"
Q, OUT, FFN = "text.layer.*.attn.q", "text.layer.*.attn.out", "text.layer.*.ffn.out"


def summed(tap, source, field, times):
    """Multiply each rank's part of a sum with how often it is in it."""

    def rule(at):
        x = at[source].reshape(*at[source].shape[:2], -1)
        step = -(-x.shape[-1] // OF)
        each = np.repeat(times, step)[: x.shape[-1]].astype(x.dtype)
        return (x * each) @ widen(getattr(at.weights, field)).astype(x.dtype).T

    return captured({tap: rule}, only=2)


def cause_of(folder, arrays, **more):
    report = judged_on_ranks(folder, arrays, **more)
    [cause] = report["causes"]
    assert cause["verdict"] == "named"
    return cause, report


@pytest.mark.parametrize(
    ("times", "name", "words"),
    [
        ([3, 3, 3], "sum_reduced_twice", "over 3 ranks is reduced twice: it is 3 times as large"),
        ([1, 0, 1], "rank_left_out", "lacks the part of rank 1"),
        ([0, 1, 0], "sum_not_reduced", "is not reduced"),
        ([1, 1, 2], "ranks_miscounted", "has 2 times rank 2's part"),
    ],
)
@pytest.mark.parametrize(("tap", "source", "field"), [(OUT, "attn.mix", "attn_out"), (FFN, "ffn.act", "down")])
def test_a_sum_of_ranks_is_told_by_how_often_each_is_in_it(tmp_path, tap, source, field, times, name, words):
    cause, report = cause_of(tmp_path, summed(tap, source, field, times))
    assert (cause["mutant"], cause["taps"]) == (name, [tap.replace("*", "2")])
    assert words in cause["what"]
    assert cause["parameters"][0]["value"] == times
    assert report["proof"]["verdict"] == "explained"


def test_a_bias_that_every_rank_adds_is_named(tmp_path):
    def rule(at):
        return RULES["vision.layer.*.ffn.out"](at) + 2 * at.vector("down_bias")

    ids, pixels = prompt_with(1), made_pixels(1, VISION["tiny"].image)
    arrays = taps_with_images(ids, pixels, {"vision.layer.*.ffn.out": rule})
    about = {"image_blocks": blocks_of(ids), "pixels": pixels, "config": WITH_TOWER}
    cause, _ = cause_of(tmp_path, arrays, ids=ids, **about)
    assert cause["mutant"] == "bias_on_every_rank"
    assert "added 3 times: on each of 3 ranks" in cause["what"]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (0, "on rank 1 heads 0..3 in the place of heads 4..7"),
        (45, "on rank 1 channels 45..84 in the place of heads 4..7"),
    ],
)
def test_another_slice_of_the_weights_is_named_with_its_rank(tmp_path, start, words):
    def rule(at):
        y = RULES[Q](at)
        flat = y.reshape(*y.shape[:2], -1)
        out = flat.copy()
        out[..., 40:80] = flat[..., start : start + 40]
        return out.reshape(y.shape)

    cause, report = cause_of(tmp_path, captured({Q: rule}, only=2))
    assert (cause["mutant"], cause["taps"]) == ("slice_of_another_rank", ["text.layer.2.attn.q"])
    assert words in cause["what"]
    [row] = [row for row in report["taps"] if row["verdict"] == "bug"]
    assert [one["off"] for one in row["ranks"]] == [False, True, False]


def test_the_wrong_half_of_every_head_is_named_with_its_rank(tmp_path):
    def rule(at):
        y = RULES[K](at).copy()
        y[..., 5:] = y[..., :5]
        return y

    cause, _ = cause_of(tmp_path, only(captured({K: rule}, only=2), "attn.pre_norm", "attn.k"), of=2, letters="H")
    assert (cause["mutant"], cause["taps"]) == ("slice_of_another_rank", ["text.layer.2.attn.k"])
    assert "on rank 1 channels 0..4 of each head in the place of channels 5..9 of each head" in cause["what"]


def with_gain(change):
    def rule(at):
        x = at["in"].astype(np.float64)
        gain = change(1 + at.vector("pre_attn_norm").astype(np.float64))
        return (x / np.sqrt((x * x).mean(-1, keepdims=True) + at.config.rms_eps) * gain).astype(np.float32)

    return captured({"text.layer.*.attn.pre_norm": rule}, only=2)


@pytest.mark.parametrize("rank", range(OF))
def test_a_gain_that_one_rank_has_otherwise_is_named_with_it(tmp_path, rank):
    def change(gain):
        return np.where(np.arange(len(gain)) % 9 == 4, gain * 1.5, gain)

    clean, other = (only(one, "in", "attn.pre_norm", "attn.q") for one in (captured(), with_gain(change)))

    def hold(number, tap, value):
        if number != rank:
            return value
        return (
            other[tap]
            if tap.endswith("pre_norm")
            else other[tap][:, :, 4 * rank : 4 * rank + 4]
            if tap.endswith("q")
            else value
        )

    cause, report = cause_of(tmp_path, clean, hold=hold)
    assert (cause["mutant"], cause["taps"]) == ("gain_of_rank", ["text.layer.2.attn.pre_norm"])
    assert f"On rank {rank} pre_attn_norm has another gain than on the others: 4 of 36 channels" in cause["what"]
    assert [row["tap"] for row in report["taps"] if row["verdict"] == "bug"] == ["text.layer.2.attn.pre_norm"]
    assert f"replica of rank {rank} is" in render_text(report)
    assert report["proof"]["verdict"] == "unknown"
