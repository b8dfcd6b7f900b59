"""Draws by their place are the draws that NumPy's own generator makes one after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.threads import TWO_THREADS, threads

from ref.weights import philox
from ref.weights.philox import BLOCK, SMALL, look_up, look_up_jit

KEYS = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)).map(lambda words: np.array(words, np.uint64))
IDENTITY = np.arange(65_536).astype(np.uint16)


@given(KEYS, st.integers(0, 20), st.integers(0, 20))
def test_a_stretch_is_cut_out_of_the_sequence(key, first, blocks):
    drawn = np.random.Generator(np.random.Philox(key=key)).integers(0, 65_536, 40 * BLOCK, dtype=np.uint16)
    got = look_up(IDENTITY, key, first, blocks)
    np.testing.assert_array_equal(got, drawn[first * BLOCK : (first + blocks) * BLOCK])


@pytest.fixture
def kernel_always(monkeypatch):
    """Small stretches too, which otherwise are NumPy's work; several chunks of them."""
    monkeypatch.setattr(philox, "SMALL", 8)
    with np.errstate(over="ignore"):  # run as plain Python, products wrap loudly
        yield


@pytest.mark.parametrize("first", [0, 1, 2**32 - 3, 2**32, 2**40])
@pytest.mark.parametrize("words", [(0, 0), (2**64 - 1, 2**63), (123_456_789_123_456_789, 5)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_the_kernel_is_the_generator(kernel_always, first, words, dtype):
    key, table = np.array(words, np.uint64), np.random.default_rng(0).permutation(65_536).astype(dtype)
    got, wanted = look_up_jit(table, key, first, 21), look_up(table, key, first, 21)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@TWO_THREADS
def test_a_large_stretch_is_the_same_for_any_number_of_threads():
    key, blocks = np.array([3, 4], np.uint64), 3 * SMALL + 5
    wanted = look_up(IDENTITY, key, 9, blocks)
    for count in (1, 2):
        with threads(count):
            np.testing.assert_array_equal(look_up_jit(IDENTITY, key, 9, blocks), wanted)
