"""Encoders: bit-equal with their owners; properties that fail on a wrong axis, bias, tie or scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import naive_quant

from ref.ops.blocks import FORMATS, Blocks, decode, decode_jit, linear_blocks_jit
from ref.ops.codes import decode_int4, decode_sfp8
from ref.quant.encode import ENCODERS, encode
from ref.quant.sfp8 import sfp8_codes

KINDS = pytest.mark.parametrize("kind", ENCODERS)
floats = st.floats(-100, 100, width=32) | st.sampled_from([0.0, -0.0, 2.0**-130, 2.0**-149, 7.0, -7.0, 0.5])
matrices = st.integers(1, 3).flatmap(lambda rows: arrays(np.float32, (rows, 64), elements=floats))


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
@given(weight=matrices)
def test_bytes_are_those_of_the_gguf_package(kind, weight):
    gguf = pytest.importorskip("gguf")
    weight[np.abs(weight) < 1e-36] = 0  # of such a block the inverse scale is infinite
    wanted = gguf.quants.quantize(weight, gguf.GGMLQuantizationType[kind])
    np.testing.assert_array_equal(encode(weight, kind).data, wanted)


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "INT4"])
@given(weight=matrices.filter(lambda w: (np.abs(w).max(axis=1) > 0).all()))
def test_bytes_are_those_of_a_loop(kind, weight):
    weight[np.abs(weight) < 1e-20] = 0  # of such a block the inverse scale is infinite
    weight[:, 0] = 3
    assert encode(weight, kind).data.tolist() == naive_quant.codes(weight, kind)


@KINDS
@given(weight=matrices)
def test_definition_and_kernel_read_the_same_bits(kind, weight):
    blocks = encode(weight, kind)
    np.testing.assert_array_equal(decode(blocks).view(np.uint32), decode_jit(blocks).view(np.uint32))


# largest error of a value, in the largest magnitude of its block or channel: half a step, and the scale's rounding
STEPS = {"Q4_0": 1 / 8 * (1 + 2**-9), "Q8_0": 0.5 / 127 * (1 + 2**-4), "INT4": 0.5 / 7 * (1 + 1e-5), "SFP8": 0.5 / 15}


@KINDS
@given(weight=arrays(np.float32, (3, 64), elements=st.floats(-100, 100, width=32)))
def test_a_value_comes_back_within_half_a_step_of_its_own_block(kind, weight):
    length = 32 if kind.startswith("Q") else 64
    weight[np.abs(weight) < 1e-3] = 0
    most = np.repeat(np.abs(weight.reshape(-1, length)).max(axis=1), length).reshape(weight.shape)
    error = np.abs(decode(encode(weight, kind)).astype(np.float64) - weight)
    assert (error <= STEPS[kind] * most + 1e-12).all()


@KINDS
@given(seed=st.integers(0, 2**32 - 1))
def test_what_codes_stand_for_is_encoded_as_they_are(kind, seed):
    rng = np.random.default_rng(seed)
    once = decode(encode(rng.standard_normal((4, 64)).astype(np.float32), kind))
    np.testing.assert_allclose(decode(encode(once, kind)), once, rtol=2e-3 if kind.startswith("Q") else 2e-6, atol=0)


@KINDS
@given(seed=st.integers(0, 2**32 - 1), row=st.integers(0, 3), block=st.integers(0, 1))
def test_a_block_or_channel_knows_nothing_of_the_others(kind, seed, row, block):
    weight = np.random.default_rng(seed).standard_normal((4, 64)).astype(np.float32)
    before = decode(encode(weight, kind))
    weight[row, 32 * block : 32 * block + 32] *= 100
    changed = decode(encode(weight, kind)) != before
    inside = np.zeros((4, 64), bool)
    inside[row, slice(32 * block, 32 * block + 32) if kind.startswith("Q") else slice(None)] = True
    assert not changed[~inside].any()
    assert changed[inside].any()


@KINDS
@given(seed=st.integers(0, 2**32 - 1))
def test_each_row_times_a_power_of_two_keeps_its_codes(kind, seed):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((4, 64)).astype(np.float32)
    factor = np.exp2(rng.integers(-4, 5, (4, 1))).astype(np.float32)
    one, other = encode(weight, kind), encode(weight * factor, kind)
    size = FORMATS[kind].size
    body = slice(2, None) if kind.startswith("Q") else slice(None)
    codes = [blocks.data.reshape(4, -1, size if kind.startswith("Q") else 1)[:, :, body] for blocks in (one, other)]
    np.testing.assert_array_equal(*codes)


@KINDS
@pytest.mark.parametrize("T", [1, 3])
def test_products_are_those_of_decoded_values(kind, T):
    rng = np.random.default_rng(3)
    for rows in (5, 9000):  # with one thread and with several
        blocks = encode(rng.standard_normal((rows, 64)).astype(np.float32), kind)
        x = rng.standard_normal((T, 64)).astype(np.float32)
        wanted = x.astype(np.float64) @ decode(blocks).astype(np.float64).T
        np.testing.assert_allclose(linear_blocks_jit(x, blocks), wanted, atol=3e-5)


def test_rows_are_taken_with_their_scales():
    blocks = encode(np.random.default_rng(4).standard_normal((6, 64)).astype(np.float32), "INT4")
    for rows in (slice(1, 4), np.array([5, 0])):
        np.testing.assert_array_equal(decode(blocks.take_rows(rows)), decode(blocks)[rows])


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_a_block_too_small_for_a_scale_is_a_block_of_zeros(kind):
    tiny = np.full((1, 32), 2.0**-149, np.float32)
    tiny[0, 3] = -1.1754944e-38
    np.testing.assert_array_equal(
        encode(tiny, kind).data[:, 2:], encode(np.zeros((1, 32), np.float32), kind).data[:, 2:]
    )
    assert not decode(encode(tiny, kind)).any()


def test_int4_of_a_channel_without_a_finite_scale_is_a_channel_of_zeros():
    weight = np.zeros((4, 8), np.float32)
    weight[1, 2:4] = 1e-39, -2e-38
    weight[2, 2] = 1e-30
    weight[3, 2] = 2.1e-38  # 7 / 2.1e-38 is still finite
    blocks = encode(weight, "INT4")
    assert blocks.scale is not None
    np.testing.assert_array_equal(blocks.scale[:2], [1, 1])
    assert (blocks.data[:2] == 0x88).all()
    np.testing.assert_array_equal(decode(blocks)[:2], 0)
    np.testing.assert_allclose(decode(blocks)[2:], weight[2:], rtol=1e-6)


def test_int4_stores_no_scale_below_a_millionth():
    """The numbers are google-deepmind/gemma 3.3.0's: codes of the true scale, read back by the stored one."""
    blocks = ENCODERS["INT4"](np.array([[1e8, -5e7, 0, 0], [7.1e6, -3.55e6, 0, 0]], np.float32))
    assert blocks.scale is not None
    np.testing.assert_array_equal(blocks.scale, np.float32([1e-6, 1e-6]))
    np.testing.assert_array_equal(decode(blocks), np.float32([[7e6, -4e6, 0, 0]] * 2))


def test_sfp8_scales_no_channel_as_if_its_largest_were_below_a_millionth():
    weight = np.zeros((3, 4), np.float32)
    weight[1, 1], weight[2, 1] = 1e-7, 1e-20
    blocks = encode(weight, "SFP8")
    assert blocks.scale is not None
    np.testing.assert_array_equal(blocks.scale, np.full(3, np.float32(1.875) / np.float32(1e-6)))
    np.testing.assert_allclose(decode(blocks), [[0, 0, 0, 0], [0, 1e-7, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_each_nibble_is_read_where_it_stands():
    data = np.arange(256, dtype=np.uint8).reshape(1, -1)
    values = decode(Blocks(data, "INT4", np.ones(1, np.float32)))
    assert values[0, 2 * 0x3C] == 0xC - 8
    assert values[0, 2 * 0x3C + 1] == 0x3 - 8
    np.testing.assert_array_equal(values, decode_int4(data))


# --- switching floating point

CODES = np.array([code for code in range(256) if code != 0x80], np.uint8)
TABLE = {1: 1.25 * 2**-23, 4: 2**-22, 32: 2**-15, 63: 0.0068359375, 64: 0.0078125, 65: 0.0087890625, 72: 0.015625}
TABLE |= {96: 0.125, 112: 0.5, 120: 1.0, 127: 1.875, 0: 0.0}


def test_sfp8_codes_are_distinct_rising_and_their_own():
    values = decode_sfp8(CODES)
    assert len(set(values.tolist())) == 255
    assert (np.diff(values[:128]) > 0).all()
    np.testing.assert_array_equal(values[128:], -values[1:128])
    np.testing.assert_array_equal(sfp8_codes(values), CODES)
    assert {code: float(decode_sfp8(np.array([code], np.uint8))[0]) for code in TABLE} == TABLE


@given(x=arrays(np.float32, 50, elements=st.floats(-1.875, 1.875, width=32)))
def test_sfp8_takes_the_nearest_code(x):
    got = decode_sfp8(sfp8_codes(x))
    assert got.tolist() == [naive_quant.to_sfp8(value) for value in x]
    assert not (sfp8_codes(x) == 0x80).any()


@given(exponent=st.integers(-30, 0), step=st.integers(0, 32), nudge=st.sampled_from([-1, 0, 1]))
def test_sfp8_at_ties_and_beside_them(exponent, step, nudge):
    x = np.float32(2.0**exponent * (1 + step / 32))
    x = np.minimum(np.nextafter(x, np.float32(nudge * 9), dtype=np.float32) if nudge else x, np.float32(1.875))
    assert float(decode_sfp8(sfp8_codes(np.array([x])))[0]) == naive_quant.to_sfp8(x)


@given(weight=arrays(np.float32, (2, 32), elements=st.floats(-1e4, 1e4, width=32)))
def test_sfp8_of_any_size_fits_into_its_range(weight):
    blocks = encode(weight, "SFP8")
    assert np.isfinite(decode(blocks)).all()
    assert not (blocks.data == 0x80).any()
