"""Distributions beside each other, tile by tile: as NumPy finds them on all columns at once."""

from functools import reduce

import numpy as np
import pytest

from ref.measure.distributions import TOP, agreement, joined, least_that_count, part_of, truth_near


def tiles_of(truth, value, length):
    return [part_of(truth[:, i : i + length], value[:, i : i + length], i) for i in range(0, truth.shape[1], length)]


def of_all(truth, value):
    logs = [x - x.max(-1, keepdims=True) for x in (truth.astype(np.float64), value.astype(np.float64))]
    logs = [x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in logs]
    kl = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1)
    best = [np.argsort(-x, axis=-1, kind="stable")[:, :TOP] for x in (truth, value)]
    same = [len({*a} & {*b}) / len(a) for a, b in zip(*best, strict=True)]
    return {"kl": kl.mean(), "top1": np.mean(best[0][:, 0] == best[1][:, 0]), "top5": np.mean(same)}


@pytest.mark.parametrize("length", [1, 3, 64, 1000])
@pytest.mark.parametrize("columns", [4, 97, 1000])
@pytest.mark.parametrize("off", [1e-3, 0.3])
def test_tiles_joined_are_all_columns(columns, length, off):
    rng = np.random.default_rng(columns + length)
    truth = 4 * rng.standard_normal((30, columns), np.float32)
    value = truth + np.float32(off) * rng.standard_normal(truth.shape, np.float32)
    found = agreement(reduce(joined, tiles_of(truth, value, length)), np.ones(30, bool))
    assert found == pytest.approx(of_all(truth, value), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("off", [1e-4, 0.02])
def test_small_logits_of_a_dump_that_is_next_to_the_truth_decide_nothing(off):
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((30, 64), np.float32), rng.standard_normal((4_000, 64), np.float32)
    truth = x @ weight.T
    value = truth + np.float32(off) * rng.standard_normal(truth.shape, np.float32)
    first = part_of(truth[:, :1_000], value[:, :1_000], 0)
    near = truth_near(x, weight[1_000:], value[:, 1_000:], least_that_count(first))
    assert (near != value[:, 1_000:]).mean() < 0.7
    large = value[:, 1_000:] > least_that_count(first)[:, None]
    np.testing.assert_allclose(near[large], truth[:, 1_000:][large], rtol=1e-4, atol=1e-4)
    found = agreement(joined(first, part_of(near, value[:, 1_000:], 1_000)), np.ones(30, bool))
    assert found == pytest.approx(of_all(truth, value), rel=3e-3, abs=1e-7)


def test_of_equal_logits_the_lower_columns_are_the_largest():
    rng = np.random.default_rng(0)
    truth, value = (rng.integers(0, 4, (50, 90)).astype(np.float32) for _ in range(2))
    part = reduce(joined, tiles_of(truth, value, 32))
    for row, x in zip(part.ids, (truth, value), strict=True):
        np.testing.assert_array_equal(row, np.argsort(-x, axis=-1, kind="stable")[:, :TOP])


def test_nan_is_the_largest_and_spoils_the_divergence():
    truth, value = np.zeros((2, 8), np.float32), np.zeros((2, 8), np.float32)
    value[1, 6] = np.nan
    part = part_of(truth, value, 0)
    assert part.ids[1, 1, 0] == 6
    assert np.isnan(part.total[1, 1])
    assert np.isfinite(part.total[:, 0]).all()


def test_padding_does_not_count():
    truth = np.tile(np.arange(9, dtype=np.float32), (3, 1))
    value = truth.copy()
    value[2] = -value[2]
    part = part_of(truth, value, 0)
    assert agreement(part, np.arange(3) < 2) == {"kl": 0, "top1": 1, "top5": 1}
    assert agreement(part, np.ones(3, bool))["kl"] > 1
