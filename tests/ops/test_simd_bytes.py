"""Vectors of bytes: compiled, each function does what its Python says, and that is right."""

import numpy as np
import pytest
from numba import njit

from ref.ops.simd import like, load_16, store, zeros_16
from ref.ops.simd_bytes import (
    bytes_of,
    fetch_64,
    lane,
    load_word,
    prefetch,
    prefetch_64,
    signed,
    to_float32,
    total,
    where_bits,
    widen_bits,
)

BYTES = np.random.default_rng(0).integers(0, 256, 64, np.uint8)


def _bytes(a, out):
    x, y = load_16(a, 3), load_16(a, 20)
    prefetch(a, 10_000)  # far behind the end
    prefetch_64(a, 0)
    fetch_64(a, 10_000)
    store(out, 0, to_float32(x))
    store(out, 16, to_float32(signed(x)))
    store(out, 32, to_float32(x & 15))
    store(out, 48, to_float32(x >> 4))
    store(out, 64, to_float32((x & 3) << 4))
    store(out, 80, to_float32(x | y))
    store(out, 96, to_float32(where_bits(load_word(a, 40), x, y)))
    upper = load_word(a, 40) >> np.uint32(16)
    store(out, 112, to_float32(signed(x & 15 | where_bits(upper, like(x, 0.0), like(x, 240.0)))))
    words = bytes_of(load_word(a, 8), load_word(a, 12), load_word(a, 24), load_word(a, 36))
    store(out, 128, to_float32(words))
    store(out, 144, to_float32(signed((x & 63) - 32)))
    for i in range(2):
        store(out, 160 + 16 * i, lane(to_float32(x), 7 + i))
    out[192] = load_word(a, 5)


def test_bytes_are_what_they_are_and_compiled_what_they_are_in_python():
    x, y, word = BYTES[3:19].astype(int), BYTES[20:36].astype(int), int(BYTES[40:44].view("<u4")[0])
    set_bits, upper_bits = ((word >> shift >> np.arange(16)) & 1 == 1 for shift in (0, 16))
    minus = np.where(upper_bits, x & 15, (x & 15) - 16)
    parts = [x, BYTES[3:19].view(np.int8), x & 15, x >> 4, (x & 3) << 4, x | y, np.where(set_bits, x, y), minus]
    parts += [BYTES[[*range(8, 16), *range(24, 28), *range(36, 40)]], (x & 63) - 32, [x[7]] * 16, [x[8]] * 16]
    wanted = np.concatenate([*parts, [int(BYTES[5:9].view("<u4")[0])]])
    for run in (_bytes, njit(_bytes)):
        out = np.zeros(193, np.float32)
        run(BYTES, out)
        np.testing.assert_array_equal(out, wanted.astype(np.float32))


def _bits(bits, floats, out):
    store(out, 0, widen_bits(load_16(bits, 1)))
    store(out, 16, widen_bits(load_16(floats, 1)))
    out[32], out[33] = widen_bits(bits[2]), widen_bits(floats[2])
    store(out, 34, zeros_16(floats))


def test_bits_of_bfloat16_are_widened_and_floats_stay():
    floats = np.random.default_rng(1).standard_normal(20, np.float32)
    bits = (floats.view(np.uint32) >> 16).astype(np.uint16)
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    for run in (_bits, njit(_bits)):
        out = np.ones(50, np.float32)
        run(bits, floats, out)
        np.testing.assert_array_equal(out, [*wide[1:17], *floats[1:17], wide[2], floats[2], *np.zeros(16)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sum_adds_halves(dtype):
    x = np.random.default_rng(2).standard_normal(16).astype(dtype)

    def run(x):
        return total(load_16(x, 0))

    wanted = x
    while wanted.size > 1:
        wanted = wanted[: wanted.size // 2] + wanted[wanted.size // 2 :]
    assert run(x) == njit(run)(x) == wanted[0]
