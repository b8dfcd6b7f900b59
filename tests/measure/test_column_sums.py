"""Sums of columns: their truth is that of the product, and what is wrong in a column is wrong in its sum."""

import numpy as np
import pytest

from ref.measure.column_sums import GROUP, factors_of, sums_of_columns, sums_of_rows

T, C, D = 5, 2 * GROUP + 7, 12


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((T, D)), rng.standard_normal((C, D)).astype(np.float32)
    return rng, x, w, factors_of(0, C)


def test_sums_are_the_weighed_columns_of_each_group():
    _, _, w, factors = drawn()
    y = w.T.astype(np.float32)
    wanted = [(y[:, g : g + GROUP] * factors[g : g + GROUP]).sum(-1) for g in range(0, C, GROUP)]
    np.testing.assert_allclose(sums_of_columns(y, factors), np.stack(wanted, -1), rtol=1e-12)
    np.testing.assert_allclose(sums_of_rows(w, factors), np.stack(wanted), rtol=1e-12)


def test_the_truth_of_sums_is_the_sum_of_the_truth():
    _, x, w, factors = drawn()
    y = x @ w.astype(np.float64).T
    np.testing.assert_allclose(x @ sums_of_rows(w, factors).T, sums_of_columns(y, factors), rtol=1e-12)


@pytest.mark.parametrize("column", [0, GROUP - 1, GROUP, C - 1])
def test_one_wrong_column_is_seen_to_a_quarter_of_its_error(column):
    error = np.zeros((T, C), np.float32)
    error[2, column] = 3
    seen = np.abs(sums_of_columns(error, factors_of(0, C)))
    assert 0.75 * 3 <= seen[2].sum() <= 1.25 * 3
    assert not seen[[0, 1, 3, 4]].any()


def test_no_two_columns_of_a_group_that_are_wrong_by_opposite_or_equal_amounts_cancel():
    factors = np.abs(factors_of(0, 8_192)).reshape(-1, GROUP)
    gaps = np.diff(np.sort(factors, axis=-1), axis=-1)
    assert gaps.min() > 0
    assert np.median(np.abs(factors[:, :1] - factors[:, 1:])) > 0.1


def test_errors_without_relation_add_up_to_their_own_size():
    columns = 8_192 * GROUP
    rng = np.random.default_rng(1)
    error = rng.standard_normal((2, columns)).astype(np.float32)
    factors = np.concatenate([factors_of(start, 2_048) for start in range(0, columns, 2_048)])
    seen = np.linalg.norm(sums_of_columns(error, factors), axis=-1) / np.linalg.norm(error, axis=-1)
    np.testing.assert_allclose(seen, 1, atol=0.04)


def test_what_is_not_finite_stays_so():
    y = np.zeros((T, C), np.float32)
    y[1, 3], y[2, GROUP] = np.nan, np.inf
    seen = np.isfinite(sums_of_columns(y, factors_of(0, C)))
    assert (~seen).sum() == 2
    assert not seen[1, 0]
    assert not seen[2, 1]
