"""The judge where its inputs are small, padded, tied or not finite beyond what it samples."""

import numpy as np
import pytest
from support.judged import captured, dumped, replaced

import ref
from ref import compare
from ref.measure import measure_logits as logits
from ref.measure.distance import Sums, errors_of, profile, sums_of
from ref.measure.distributions import joined, part_of
from ref.measure.measure_tap import largest_error
from ref.measure.projection import dots_of


def judge(arrays, dtype="float32"):
    return compare(dumped(arrays, dtype), loaded=ref.load("tiny"))


@pytest.fixture
def sampled(monkeypatch):
    """Let the vocabulary of 97 be large: 16 columns are sampled, tiles are of 40."""
    monkeypatch.setattr(logits, "COLUMNS", 16)
    monkeypatch.setattr(logits, "TILE", 40)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 4, 95])
def test_what_is_not_finite_is_located_in_columns_that_are_not_sampled(sampled, bad, channel):
    def spoil(x):
        x = x.copy()
        x[0, 7, channel] = x[0, 9, 1] = bad
        return x

    report = judge(replaced(captured(), "text.logits", spoil))
    row = next(row for row in report["taps"] if row["tap"] == "text.logits")
    assert report["verdict"] == row["verdict"] == "bug"
    assert (row["nonfinite"]["token"], row["nonfinite"]["channel"], row["nonfinite"]["count"]) == (7, channel, 2)
    assert row["why"] == "not finite at token 7"


def test_figures_of_logits_are_of_all_columns(sampled):
    def spoil(x):
        x = x.copy()
        x[0, 3, 50] += 40
        return x

    arrays = captured()
    row = judge(replaced(arrays, "text.logits", spoil))["taps"][-1]
    assert row["verdict"] == "bug"
    assert (row["metrics"]["worst_token"], row["metrics"]["worst_channel"]) == (3, 50)
    assert row["metrics"]["max_abs"] == pytest.approx(40, rel=1e-3)
    assert row["metrics"]["top1"] == pytest.approx(18 / 19)
    assert row["metrics"]["kl"] > 0.1
    whole = np.exp(arrays["text.logits"].astype(np.float64))
    spoilt = np.exp(spoil(arrays["text.logits"]).astype(np.float64))
    p, q = (x / x.sum(-1, keepdims=True) for x in (whole, spoilt))
    assert row["metrics"]["kl"] == pytest.approx((p * np.log(p / q)).sum(-1).mean(), rel=1e-4)


def test_equal_logits_have_the_arg_max_that_numpy_takes(sampled):
    both = np.zeros((2, 6, 97), np.float32)
    both[:, np.arange(6), [3, 39, 40, 41, 80, 96]] = both[:, np.arange(6), [60, 60, 60, 90, 96, 95]] = 5
    parts = [part_of(both[0, :, i : i + 40], both[1, :, i : i + 40], i) for i in (0, 40, 80)]
    first = joined(joined(parts[0], parts[1]), parts[2]).ids[..., 0]
    np.testing.assert_array_equal(first, both.argmax(-1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tokens", [1, 2])
def test_a_token_or_two_match(tokens, dtype):
    assert judge(captured(dtype=dtype, tokens=tokens), dtype)["verdict"] == "match"


def test_the_largest_error_is_that_of_tokens_that_count():
    value = np.zeros((1, 5, 3))
    value[0, 0] = 100
    value[0, 4, 1] = -3
    assert largest_error(value, np.zeros_like(value), "text.layer.0.attn.pre_norm", np.arange(5) > 0) == 3
    scores = np.zeros((1, 2, 5, 3))
    scores[0, 1, 0] = 100
    assert largest_error(scores, np.zeros_like(scores), "text.layer.0.attn.scores", np.arange(5) > 0) == 0


def test_a_small_token_beside_a_large_one_counts():
    truth = np.array([[[1e4, 0.0], [1.0, 0.0]]])
    value = truth.copy()
    value[0, 1] = 0
    assert errors_of(sums_of(value, truth, "text.embed")).distance.worst_token == 1


def test_nan_is_never_a_small_distance():
    sums = Sums(np.array([[np.nan, np.nan], [0.0, 1.0]]), np.array([[np.nan, np.nan]]), 0.0, 0.0, 2)
    assert all(np.isnan(figure) for figure in errors_of(sums).distance)


@pytest.mark.parametrize("count", [1, 511, 512, 600, 1025])
def test_a_profile_has_the_bins_of_array_split(count):
    tokens = np.stack([np.arange(count) ** 2.0, np.ones(count)], axis=1)
    got = profile(Sums(tokens, tokens, 0.0, 0.0, count), np.ones(count), "tokens")
    relative = np.array_split(np.arange(count, dtype=float), min(512, count))
    assert got == [part.max() for part in relative]


def test_dots_want_one_shape():
    with pytest.raises(ValueError, match="shapes"):
        dots_of(np.zeros(3), np.zeros(3), np.zeros(4))
