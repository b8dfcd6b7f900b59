"""Encoders: what a format cannot hold is refused with its place, and no value less."""

import numpy as np
import pytest

from ref.errors import BadInput
from ref.ops.blocks import FORMATS, decode
from ref.quant.encode import ENCODERS, encode
from ref.quant.sfp8 import sfp8_codes

KINDS = pytest.mark.parametrize("kind", ENCODERS)


@pytest.mark.parametrize("bad", [1.8751, -2, np.inf, np.nan])
def test_sfp8_without_a_scale_refuses_what_is_too_large(bad):
    with pytest.raises(BadInput, match=r"SFP8: value: wanted at most 1\.875 in magnitude, or a scale, got .* at \[1\]"):
        sfp8_codes(np.array([0, bad], np.float32))


@KINDS
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_with_its_place(kind, bad):
    weight = np.zeros((2, 32), np.float32)
    weight[1, 7] = bad
    with pytest.raises(BadInput, match=rf"wanted finite numbers for {kind}, got {bad} at \[1, 7\]"):
        encode(weight, kind)


# float16 ends below 65,520, which is a scale of -m / 8 or m / 127; int4's least scale is 1e-6, of m / 7; SFP8's least
# normal float32 is 2^-126, of m / 1.875
HELD = {"Q4_0": 524159.97, "Q8_0": 8321039.5, "INT4": 7e6, "SFP8": 1.875 * 2**126}


@KINDS
def test_the_largest_magnitude_comes_back_and_the_next_is_refused_with_its_place(kind):
    weight = np.zeros((3, 64), np.float32)
    weight[1, 40] = -np.float32(HELD[kind])
    np.testing.assert_allclose(decode(encode(weight, kind)), weight, rtol=6e-4)
    weight[1, 40] = np.nextafter(weight[1, 40], np.float32(-np.inf))
    part = r"block 1 of row 8" if kind.startswith("Q") else "channel 8"
    line = rf"^blk: {part}: wanted magnitudes up to [^ ]+, so that {kind} holds its scale, got -[^ ]+ at \[8, 40\]$"
    with pytest.raises(BadInput, match=line):
        encode(weight, kind, "blk", 7)


@KINDS
def test_the_bare_encoders_do_not_bring_back_what_is_refused(kind):
    weight = np.full((1, 32), np.finfo(np.float32).max)
    with np.errstate(over="ignore", invalid="ignore"):  # a scale of infinity
        back = decode(ENCODERS[kind](weight))
    assert not np.isclose(back, weight, rtol=0.1).any()


@pytest.mark.parametrize(("kind", "width"), [("Q4_0", 33), ("Q8_0", 48), ("INT4", 3)])
def test_a_width_that_is_no_multiple_of_the_block_is_refused(kind, width):
    block = FORMATS[kind].length
    with pytest.raises(BadInput, match=f"wanted a multiple of {block}, the block of {kind}, got {width}"):
        encode(np.zeros((2, width), np.float32), kind)


def test_other_formats_shapes_and_dtypes_are_refused():
    with pytest.raises(BadInput, match="wanted one of Q4_0, Q8_0, INT4, SFP8, got Q6_K"):
        encode(np.zeros((1, 32), np.float32), "Q6_K")
    with pytest.raises(BadInput, match=r"wanted float32 \[O, I\], got float64 \[1, 32\]"):
        encode(np.zeros((1, 32)), "INT4")
    with pytest.raises(BadInput, match=r"got float32 \[32\]"):
        encode(np.zeros(32, np.float32), "INT4")
