"""Encoders: float weights to the codes of a format, exactly as the format's owner makes them."""

import numpy as np

from ref.errors import wanted
from ref.ops.blocks import FORMATS, Blocks

BLOCK = 32
LARGEST_SFP8 = np.float32(1.875)
LEAST_SCALE = np.float32(1e-6)


def encode(weight, kind: str, where: object = "weight", first_row: int = 0) -> Blocks:
    """Quantise a matrix.

    Args:
        weight: [O, I] float32, finite; I a multiple of the format's block.
        kind: a key of ENCODERS: Q4_0, Q8_0 (blocks of 32), INT4, SFP8 (a scale for each of the O channels).
        where: the weight's name, for refusals.
        first_row: index that the first row has in the matrix that these rows are a part of, for refusals.

    Returns:
        Blocks [O, I].

    Rounding: as each encoder's.
    Raises: BadInput: no such format, not a matrix, a width that is no multiple of the block, a NaN or infinity.
    Source: each encoder's.
    Differs: each encoder's.
    """
    if kind not in ENCODERS:
        raise wanted("format", "quantize", f"one of {', '.join(ENCODERS)}", kind)
    weight = np.asarray(weight)
    if weight.ndim != 2 or weight.dtype != np.float32:
        raise wanted("weight", kind, "float32 [O, I]", f"{weight.dtype} {list(weight.shape)}")
    check_width(weight.shape[1], kind, where)
    if not np.isfinite(weight).all():
        row, column = np.argwhere(~np.isfinite(weight))[0].tolist()
        got = f"{weight[row, column]} at {[first_row + row, column]}"
        raise wanted("value", where, f"finite numbers for {kind}", got)
    return ENCODERS[kind](weight)


def check_width(width: int, kind: str, where: object) -> None:
    """Refuse a row that blocks cannot be cut from.

    Raises:
        BadInput: not a multiple of the block.
    """
    length = FORMATS[kind].length
    if width % length:
        raise wanted("width", where, f"a multiple of {length}, the block of {kind}", width)


def _inverse(d):
    """Return 1 / d, and 0 where that is not finite: as float16 such a scale is 0, so that no code matters."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / d
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def _half_bytes(d):
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(d, "<f2").view(np.uint8).reshape(*d.shape, 2)


def encode_q4_0(weight) -> Blocks:
    """Quantise in blocks of 32 with four bits: the value of largest magnitude becomes code 0, whatever its sign.

        d = m / -8, m the signed value of largest magnitude;    q = min(15, trunc(x / d + 8.5))

    Args:
        weight: [O, I] float32, finite, I a multiple of 32.

    Returns:
        Blocks [O, I] of format Q4_0: d as float16; value j in the low half of byte j, 16 + j in the high half.

    Rounding: 1 / d and its product in float32; half up after the offset, of the unrounded d.
    Source: ggml `quantize_row_q4_0_ref`; bit-equal to the `gguf` package.
    Differs: where d is so small that 1 / d is infinite, ggml converts infinities to integers, which C leaves undefined.
    """
    blocks = weight.reshape(-1, BLOCK)
    most = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    d = most / np.float32(-8)
    inverse = _inverse(d)
    q = np.clip(np.trunc(blocks * inverse + np.float32(8.5)), 0, 15).astype(np.uint8)
    halves = q[:, : BLOCK // 2] | q[:, BLOCK // 2 :] << 4
    data = np.concatenate([_half_bytes(d[:, 0]), halves], axis=1)
    return Blocks(data.reshape(len(weight), -1), "Q4_0")


def encode_q8_0(weight) -> Blocks:
    """Quantise in blocks of 32 with eight bits.

        d = max|x| / 127;    q = round(x / d), half away from zero

    Args:
        weight: [O, I] float32, finite, I a multiple of 32.

    Returns:
        Blocks [O, I] of format Q8_0: d as float16, then 32 signed bytes.

    Rounding: 1 / d and its product in float32, of the unrounded d.
    Source: ggml `quantize_row_q8_0_ref`; bit-equal to the `gguf` package.
    Differs: ggml's vector code for activations rounds half to even.
    """
    blocks = weight.reshape(-1, BLOCK)
    d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = _inverse(d)
    x = blocks * inverse
    size = np.abs(x)
    down = np.floor(size)
    q = np.sign(x) * (down + np.floor(2 * (size - down)))
    data = np.concatenate([_half_bytes(d[:, 0]), q.astype(np.int8).view(np.uint8)], axis=1)
    return Blocks(data.reshape(len(weight), -1), "Q8_0")


def encode_int4(weight) -> Blocks:
    """Quantise each channel with four bits and one scale.

        s = 7 / max_i |x_i|;    q = clip(round(x s), -8, 7), half to even;    read back as q / s

    Args:
        weight: [O, I] float32, finite; a channel is an output.

    Returns:
        Blocks [O, I] of format INT4, with its scales [O]. A channel of zeros has scale 1.

    Rounding: s = float32(7 * float32(1 / max)); the product in float32. -8 is never reached.
    Source: google-deepmind/gemma 3.3.0 `peft/_quantization_utils.uniform_quantize`; Gemma 3 report, section 2.3.
    Differs: of a channel of zeros google-deepmind/gemma makes NaN.
    """
    most = np.abs(weight).max(axis=1, initial=0)
    with np.errstate(divide="ignore", over="ignore"):
        scale = np.where(most == 0, np.float32(1), np.float32(7) * (np.float32(1) / most))
    q = np.clip(np.rint(weight * scale[:, None]), -8, 7).astype(np.int8) + 8
    codes = q.astype(np.uint8).reshape(len(weight), -1, 2)
    return Blocks(codes[:, :, 0] | codes[:, :, 1] << 4, "INT4", np.maximum(scale, LEAST_SCALE))


def encode_sfp8(weight) -> Blocks:
    """Quantise each channel as switching floating point, scaled to use its whole range.

        s = 1.875 / max_i |x_i|;    codes of x s by `sfp8_codes`;    read back as value / s

    Args:
        weight: [O, I] float32, finite; a channel is an output.

    Returns:
        Blocks [O, I] of format SFP8, with its scales [O].

    Rounding: s and the product in float32.
    Source: google-deepmind/gemma 3.3.0 `peft/_quantization._simulate_sfp8_quantization`.
    Differs: gemma.cpp has one scale a tensor, and none where nothing exceeds 1.875: `sfp8_codes` alone.
    """
    most = np.maximum(np.abs(weight).max(axis=1, initial=0), LEAST_SCALE)
    scale = LARGEST_SFP8 / most
    scaled = np.clip(weight * scale[:, None], -LARGEST_SFP8, LARGEST_SFP8)  # the product may round up
    return Blocks(sfp8_codes(scaled), "SFP8", scale)


def sfp8_codes(x):
    """Round to the nearest switching floating-point code, ties to an even mantissa.

        3 bits of mantissa where |x| >= 1.9375 * 2^-8, else 2; below 1.875 * 2^-24: 0; from there to 1.25 * 2^-23: that

    Args:
        x: [...] float32, finite, at most 1.875 in magnitude.

    Returns:
        [...] uint8, as `ref.ops.codes.decode_sfp8` reads them; never 0x80.

    Raises: BadInput: a larger value: scale it first; a NaN.
    Source: gemma.cpp `compression/sfp_test.cc`, the scalar functions, to which this is bit-equal.
    Differs: gemma.cpp's vector encoder cuts float32 to bfloat16 first. google-deepmind/gemma's simulation
        finds powers of two by float32 logarithms, which miss some below 2^-12, and takes those below 2^-20 for 2^-20.
    """
    x = np.asarray(x, np.float32)
    if not (np.abs(x) <= LARGEST_SFP8).all():
        place = np.argwhere(~(np.abs(x) <= LARGEST_SFP8))[0].tolist()
        raise wanted("value", "SFP8", "at most 1.875 in magnitude, or a scale", f"{x[tuple(place)]} at {place}")
    bits = x.view(np.uint32)
    size = bits & np.uint32(0x7FFFFFFF)
    shift = np.where(np.abs(x) >= 1.9375 * 2.0**-8, 20, 21).astype(np.uint32)  # 23 bits of mantissa less 3, less 2
    half, even = (np.uint32(1) << (shift - np.uint32(1))) - np.uint32(1), (size >> shift) & np.uint32(1)
    rounded = ((size + half + even) >> shift).astype(np.int64)  # exponent and mantissa, side by side
    large = 64 + rounded - ((127 - 7) << 3)
    small = rounded - ((127 - 23) << 2)
    code = np.where(np.abs(x) >= 1.875 * 2.0**-8, np.where(shift == 20, large, 64), np.maximum(small, 0))
    code = np.where((small == 0) & (shift == 21), 1, code)  # 2^-23 itself would be code 0
    return (code | np.where((code > 0) & (bits >> 31 > 0), 0x80, 0)).astype(np.uint8)


ENCODERS = {"Q4_0": encode_q4_0, "Q8_0": encode_q8_0, "INT4": encode_int4, "SFP8": encode_sfp8}
