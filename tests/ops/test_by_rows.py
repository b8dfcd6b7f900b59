"""A matrix whose rows are made on demand is the same weight as the array of its rows."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref.config import SIZES
from ref.ops.linear import FEW, ByRows, embed, embed_jit, linear, linear_jit, take_rows, widen
from ref.ops.product import OUTPUTS
from ref.ops.rounding import round_bfloat16
from ref.weights.load import hold_as
from ref.weights.synthetic import synthetic_params

KINDS = ["float32", "float64", "bfloat16"]


def pair(kind, shape, seed=0):
    """Return a matrix as an array and by rows, and the list of how many rows were asked for at a time."""
    values = np.random.default_rng(seed).normal(size=shape)
    array = round_bfloat16(values.astype(np.float32)) if kind == "bfloat16" else values.astype(kind)
    asked = []

    def take(rows):
        asked.append(len(array[rows]))
        return array[rows]

    return array, ByRows(shape, take), asked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("project", [linear, linear_jit])
@given(st.integers(1, FEW + 4), st.integers(1, 30), st.sampled_from([np.float32, np.float64]))
def test_products_are_the_same(project, kind, T, outputs, dtype):
    array, lazy, _ = pair(kind, (outputs, 21))
    x = np.random.default_rng(1).normal(size=(2, T, 21)).astype(dtype)
    got, wanted = project(x, lazy), project(x, array)
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T", [1, FEW, FEW + 1, 40])
@pytest.mark.parametrize("bias", [None, np.arange(71.0)])
def test_the_kernel_asks_for_a_tile_at_a_time(monkeypatch, kind, T, bias):
    array, lazy, asked = pair(kind, (71, 21))
    # the module; ref.ops.linear is its function
    monkeypatch.setattr(sys.modules["ref.ops.linear"], "TILE", 21 * OUTPUTS)
    x = np.random.default_rng(1).normal(size=(T, 21)).astype(np.float32)
    got, wanted = linear_jit(x, lazy, bias), linear_jit(x, array, bias)
    assert asked == [OUTPUTS, OUTPUTS, 71 - 2 * OUTPUTS]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=21 * 2.0**-23 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("look_up", [embed, embed_jit])
def test_the_embedding_asks_for_each_token_once(kind, look_up):
    array, lazy, asked = pair(kind, (31, 21))
    ids = np.array([[7, 30, 7], [0, 7, 30]])
    np.testing.assert_array_equal(look_up(ids, lazy, 4.5, np.float32), look_up(ids, array, 4.5, np.float32))
    assert asked == [3]


@pytest.mark.parametrize("kind", KINDS)
def test_widened_it_is_the_widened_array(kind):
    array, lazy, _ = pair(kind, (31, 21))
    assert widen(lazy).dtype == widen(array).dtype
    np.testing.assert_array_equal(widen(lazy), widen(array))
    for rows in (slice(3, 9), np.array([4, 0, 4])):
        np.testing.assert_array_equal(take_rows(lazy, rows), take_rows(array, rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held_as", ["float32", "bfloat16"])
def test_held_in_memory_it_is_an_array(monkeypatch, kind, held_as):
    array, lazy, asked = pair(kind, (97, 36))
    monkeypatch.setattr("ref.weights.load.ROWS_AT_A_TIME", 32)
    params = synthetic_params(SIZES["tiny"])
    held = hold_as(params._replace(embedding=lazy), held_as).embedding
    assert asked == [32, 32, 32, 1]
    assert type(held) is np.ndarray
    wanted = hold_as(params._replace(embedding=array), held_as).embedding
    assert held.dtype == wanted.dtype
    np.testing.assert_array_equal(held, wanted)
    assert hold_as(params._replace(embedding=lazy), "file").embedding is lazy
