"""The truth from the prompt beside that on a dump's own inputs: as exact as if it were alone."""

import numpy as np
import pytest

from ref.emulate.arithmetic import TRUTH
from ref.emulate.paired_truth import CLOSE, Pair
from ref.ops import KERNEL

T, D = 40, 640


def drawn():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, T, D)), rng.standard_normal((64, D)).astype(np.float32).astype(np.float64)
    return x, w, rng.standard_normal((1, T, D)), rng.standard_normal(64)


def size_of(x, w):
    return np.linalg.norm(x, axis=-1)[..., None] * np.linalg.norm(w, axis=-1)


@pytest.mark.parametrize("apart", [0.0, 1e-9, 1e-7, 1e-5])
def test_what_is_close_is_exact_to_a_part_of_float32(apart):
    x, w, noise, bias = drawn()
    pair, other = Pair(), x + apart * noise
    with pair.beside():
        np.testing.assert_array_equal(pair.first.linear(x, w, bias), TRUTH.linear(x, w, bias))
        seen = pair.second.linear(other, w, bias)
    assert seen.dtype == np.float64
    assert (np.abs(seen - TRUTH.linear(other, w, bias)) <= 2.0**-33 * size_of(x, w)).all()


@pytest.mark.parametrize("apart", [10 * CLOSE, 1.0, np.inf])
def test_what_is_far_is_the_truth_itself(apart):
    x, w, *_ = drawn()
    pair, other = Pair(), x.copy()
    other[0, 3, 5] += apart
    with pair.beside():
        pair.first.linear(x, w)
        np.testing.assert_array_equal(pair.second.linear(other, w), TRUTH.linear(other, w))


def test_another_weight_or_shape_is_the_truth_itself():
    x, w, *_ = drawn()
    pair = Pair()
    with pair.beside():
        np.testing.assert_array_equal(pair.second.linear(x, w), TRUTH.linear(x, w))
        pair.first.linear(x, w)
        np.testing.assert_array_equal(pair.second.linear(x, w.copy()), KERNEL.linear(x, w))
        np.testing.assert_array_equal(pair.second.linear(x[:, :7], w), KERNEL.linear(x[:, :7], w))


def test_nothing_is_remembered_but_beside_each_other():
    x, w, noise, _ = drawn()
    other, pair = x + 1e-7 * noise, Pair()
    pair.first.linear(x, w)
    np.testing.assert_array_equal(pair.second.linear(other, w), TRUTH.linear(other, w))
    with pair.beside():
        pair.first.linear(x, w)
        assert (pair.second.linear(other, w) != TRUTH.linear(other, w)).any()
    with pair.beside():
        np.testing.assert_array_equal(pair.second.linear(other, w), TRUTH.linear(other, w))
