"""Bases: applying a change and undoing it are inverse, along one axis or per head, and queries follow their keys."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref.hypotheses.change import Change

AXES = ["B", "T", "K", "H"]
QUERIES = ["B", "T", "N", "H"]
HEADS, GROUP, LENGTH = 3, 2, 4


def values(seed, heads=HEADS):
    return np.random.default_rng(seed).normal(size=(1, 5, heads, LENGTH))


@st.composite
def changes(draw):
    """Draw an order of heads, an order or factors of channels, alike in all heads or apart."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    factors = lambda *shape: rng.choice([-1, 1], shape) * np.exp(rng.normal(size=shape))  # noqa: E731
    return draw(
        st.sampled_from(
            [
                Change("K", order=rng.permutation(HEADS)),
                Change("H", order=rng.permutation(LENGTH)),
                Change("H", order=np.stack([rng.permutation(LENGTH) for _ in range(HEADS)])),
                Change("H", factor=factors(LENGTH)),
                Change("H", factor=factors(HEADS, LENGTH)),
                Change("K", factor=factors(HEADS)),
            ]
        )
    )


@given(changes(), st.integers(0, 100))
def test_undoing_is_the_inverse_of_applying(change, seed):
    x = values(seed)
    assert change.fits(x.shape, AXES)
    np.testing.assert_allclose(change.undo(change.apply(x, AXES), AXES), x, rtol=1e-12)
    np.testing.assert_allclose(change.apply(change.undo(x, AXES), AXES), x, rtol=1e-12)


def test_each_row_of_an_order_says_where_a_value_came_from():
    order = np.array([2, 0, 1])
    changed = Change("K", order=order).apply(values(0), AXES)
    for head in range(HEADS):
        assert np.array_equal(changed[:, :, head], values(0)[:, :, order[head]])


def test_an_order_per_head_stays_within_its_head():
    orders = np.array([[1, 0, 2, 3], [0, 1, 2, 3], [3, 2, 1, 0]])
    changed = Change("H", order=orders).apply(values(0), AXES)
    for head in range(HEADS):
        assert np.array_equal(changed[:, :, head], values(0)[:, :, head, orders[head]])


@pytest.mark.parametrize("of", ["order", "factor"])
def test_what_key_heads_have_their_query_heads_have_too(of):
    rng = np.random.default_rng(1)
    own = np.stack([rng.permutation(LENGTH) for _ in range(HEADS)]) if of == "order" else rng.normal(size=(HEADS, 4))
    change, x = Change("H", **{of: own}), values(2, HEADS * GROUP)
    assert change.fits(x.shape, QUERIES)
    changed = change.apply(x, QUERIES)
    for head in range(HEADS * GROUP):
        mine = x[:, :, head, own[head // GROUP]] if of == "order" else x[:, :, head] * own[head // GROUP]
        assert np.array_equal(changed[:, :, head], mine)
    np.testing.assert_allclose(change.undo(changed, QUERIES), x, rtol=1e-12)


def test_an_order_of_key_heads_moves_their_query_heads_along():
    shape = (1, 5, HEADS * GROUP, LENGTH)
    queries = Change("K", order=np.array([2, 0, 1])).for_queries(shape, QUERIES)
    assert queries is not None
    assert queries.axis == "N"
    assert queries.order is not None
    assert queries.order.tolist() == [4, 5, 0, 1, 2, 3]
    assert Change("H", order=np.arange(LENGTH)).for_queries(shape, QUERIES) is None
    assert Change("K", factor=np.ones(HEADS)).for_queries(shape, QUERIES) is None


def test_a_change_fits_only_its_own_axis_and_size():
    assert not Change("D", order=np.arange(LENGTH)).fits((1, 5, HEADS, LENGTH), AXES)
    assert not Change("H", order=np.arange(LENGTH + 1)).fits((1, 5, HEADS, LENGTH), AXES)
    assert not Change("H", factor=np.ones((2, LENGTH))).fits((1, 5, HEADS, LENGTH), AXES)


def test_two_changes_are_the_same_by_kind_axis_and_values():
    one = Change("H", order=np.array([1, 0]))
    assert one.same(Change("H", order=np.array([1, 0])))
    assert not one.same(Change("H", order=np.array([0, 1])))
    assert not one.same(Change("K", order=np.array([1, 0])))
    assert not one.same(Change("H", factor=np.array([1, 0])))
