"""Encoders: float weights to the codes of a format, exactly as the format's owner makes them."""

import numpy as np

from ref.errors import BadInput, wanted
from ref.ops.blocks import FORMATS, Blocks
from ref.quant.sfp8 import LARGEST_SFP8, sfp8_codes

BLOCK = 32
LEAST_SCALE = np.float32(1e-6)  # that int4 stores
LEAST_MAGNITUDE = np.float32(1e-6)  # that SFP8 takes for a channel's largest, so that its scale is finite

# Largest magnitude whose scale is held: float16 ends below 65,520; below LEAST_SCALE int4 reads back what it never
# encoded; SFP8's must be a normal float32, since some processors take others for zero.
LARGEST = {
    "Q4_0": np.nextafter(np.float32(8 * 65_520), np.float32(0)),
    "Q8_0": np.nextafter(np.float32(127 * 65_520), np.float32(0)),
    "INT4": np.float32(7) / LEAST_SCALE,
    "SFP8": LARGEST_SFP8 * np.float32(2.0**126),
}


def encode(weight: np.ndarray, kind: str, where: object = "weight", first_row: int = 0) -> Blocks:
    """Quantise a matrix, having refused what would not be read back.

    Args:
        weight: [O, I] float32, finite, of magnitudes up to LARGEST; I a multiple of the format's block.
        kind: a key of ENCODERS: Q4_0, Q8_0 (blocks of 32), INT4, SFP8 (a scale for each of the O channels).
        where: the weight's name, which every refusal begins with.
        first_row: index that the first row has in the matrix that these rows are a part of, for refusals.

    Returns:
        Blocks [O, I].

    Rounding: as each encoder's.
    Raises: BadInput: no such format; not a float32 matrix; a width that is no multiple of the block; a NaN or infinity;
        a magnitude whose block or channel has a scale that the format does not hold.
    Source: each encoder's.
    Differs: each encoder's.
    """
    if kind not in ENCODERS:
        raise wanted("format", where, f"one of {', '.join(ENCODERS)}", kind)
    weight = np.asarray(weight)
    if weight.ndim != 2 or weight.dtype != np.float32:
        raise wanted(f"weight for {kind}", where, "float32 [O, I]", f"{weight.dtype} {list(weight.shape)}")
    check_width(weight.shape[1], kind, where)
    held = np.abs(weight) <= LARGEST[kind]
    if not held.all():
        row, column = np.argwhere(~held)[0].tolist()
        raise _not_held(weight[row, column], kind, where, first_row + row, column)
    return ENCODERS[kind](weight)


def _not_held(value, kind: str, where: object, row: int, column: int) -> BadInput:
    got = f"{value} at {[row, column]}"
    if not np.isfinite(value):
        return wanted("value", where, f"finite numbers for {kind}", got)
    part = f"block {column // BLOCK} of row {row}" if FORMATS[kind].length == BLOCK else f"channel {row}"
    return wanted(part, where, f"magnitudes up to {LARGEST[kind]:.8g}, so that {kind} holds its scale", got)


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


def encode_q4_0(weight: np.ndarray) -> Blocks:
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


def encode_q8_0(weight: np.ndarray) -> Blocks:
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


def encode_int4(weight: np.ndarray) -> Blocks:
    """Quantise each channel with four bits and one scale.

        s = 7 / max_i |x_i|;    q = clip(round(x s), -8, 7), half to even;    read back as q / max(s, 1e-6)

    Args:
        weight: [O, I] float32, finite; a channel is an output.

    Returns:
        Blocks [O, I] of format INT4, with its scales max(s, 1e-6), [O]. Where s is infinite, in a channel of zeros or
        of magnitudes below 2.1e-38, the scale is 1 and all codes are 0.

    Rounding: s = float32(7 * float32(1 / max)); the product in float32. -8 is never reached.
    Source: google-deepmind/gemma 3.3.0 `peft/_quantization_utils.uniform_quantize`; Gemma 3 report, section 2.3.
    Differs: where s is infinite google-deepmind/gemma reads back 0 for the largest and NaN for zeros. Channels beyond
        7e6 come back cut to that, there and here: `encode` refuses them.
    """
    most = np.abs(weight).max(axis=1, initial=0)
    with np.errstate(divide="ignore", over="ignore"):
        scale = np.float32(7) * (np.float32(1) / most)
    scale = np.where(np.isfinite(scale), scale, np.float32(1))
    q = np.clip(np.rint(weight * scale[:, None]), -8, 7).astype(np.int8) + 8
    codes = q.astype(np.uint8).reshape(len(weight), -1, 2)
    return Blocks(codes[:, :, 0] | codes[:, :, 1] << 4, "INT4", np.maximum(scale, LEAST_SCALE))


def encode_sfp8(weight: np.ndarray) -> Blocks:
    """Quantise each channel as switching floating point, scaled to use its whole range.

        s = 1.875 / max(max_i |x_i|, 1e-6);    codes of x s by `sfp8_codes`;    read back as value / s

    Args:
        weight: [O, I] float32, finite; a channel is an output.

    Returns:
        Blocks [O, I] of format SFP8, with its scales [O].

    Rounding: s and the product in float32.
    Source: google-deepmind/gemma 3.3.0 `peft/_quantization._simulate_sfp8_quantization`.
    Differs: gemma.cpp has one scale a tensor, and none where nothing exceeds 1.875: `sfp8_codes` alone.
    """
    most = np.maximum(np.abs(weight).max(axis=1, initial=0), LEAST_MAGNITUDE)
    scale = LARGEST_SFP8 / most
    scaled = np.clip(weight * scale[:, None], -LARGEST_SFP8, LARGEST_SFP8)  # the product may round up
    return Blocks(sfp8_codes(scaled), "SFP8", scale)


ENCODERS = {"Q4_0": encode_q4_0, "Q8_0": encode_q8_0, "INT4": encode_int4, "SFP8": encode_sfp8}
