"""bfloat16 as bits: every pattern, every kind of float32, against ml_dtypes."""

import ml_dtypes
import numpy as np
from hypothesis import given
from support.strategies import seeds

from ref.ops.rounding import round_bfloat16, widen_bfloat16

ALL_PATTERNS = np.arange(65_536, dtype=np.uint16)


def witness(x):
    with np.errstate(invalid="ignore"):  # it warns of NaN
        return x.astype(ml_dtypes.bfloat16).view(np.uint16)


def assert_same_rounding(x):
    bits, wanted = round_bfloat16(x), witness(x)
    missing = np.isnan(x)
    np.testing.assert_array_equal(bits[~missing], wanted[~missing])
    assert np.isnan(widen_bfloat16(bits[missing])).all()  # which NaN is nobody's promise
    np.testing.assert_array_equal(bits[missing] >> 15, x[missing].view(np.uint32) >> 31)


def test_widening_all_patterns():
    wanted = ALL_PATTERNS.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(widen_bfloat16(ALL_PATTERNS), wanted)
    np.testing.assert_array_equal(widen_bfloat16(ALL_PATTERNS).view(np.uint32) >> 16, ALL_PATTERNS)


def test_every_pattern_survives_the_round_trip():
    values = widen_bfloat16(ALL_PATTERNS)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(round_bfloat16(values)[numbers], ALL_PATTERNS[numbers])
    assert np.isnan(widen_bfloat16(round_bfloat16(values)[~numbers])).all()


def test_every_halfway_point_and_its_neighbours():
    upper = ALL_PATTERNS.astype(np.uint32) << 16
    for low in (0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        assert_same_rounding((upper | low).view(np.float32))


@given(seed=seeds)
def test_any_float32(seed):
    bits = np.random.default_rng(seed).integers(0, 2**32, 4096, dtype=np.uint32)
    assert_same_rounding(bits.view(np.float32))


def test_ties_go_to_even_and_overflow_to_infinity():
    x = np.float32([1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -3.4e38, np.inf, -np.inf, -0.0])
    wanted = [1, 1 + 2**-6, np.inf, -np.inf, np.inf, -np.inf, 0]
    np.testing.assert_array_equal(widen_bfloat16(round_bfloat16(x)), wanted)
    assert round_bfloat16(np.float32(-0.0)) == 0x8000


def test_shapes_are_kept():
    assert round_bfloat16(np.float32(1)).shape == ()
    assert round_bfloat16(np.ones((3, 4), np.float32).T).shape == (4, 3)
    assert widen_bfloat16(np.zeros((2, 0), np.uint16)).shape == (2, 0)
