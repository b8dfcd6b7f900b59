"""What a product's operands are rounded to before they are multiplied, and sums that are narrower than float32."""

from collections.abc import Callable

import ml_dtypes
import numpy as np

from ref.ops.blocks import Blocks
from ref.ops.linear import ByRows, Weight
from ref.ops.rounding import bfloat16_values

LARGEST_FLOAT8 = 448.0  # of e4m3 without infinities
FLOAT8_SUM_BITS = 14  # of mantissa, in sums with `use_fast_accum`: 1.0e-3 off; an H200 is 9.9e-4


def as_it_is(x: np.ndarray) -> np.ndarray:
    """Round nothing."""
    return x


def to_float16(x: np.ndarray) -> np.ndarray:
    """Round to float16 and stay in float32; what is above 65,504 becomes infinite, as it does there."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def to_tf32(x: np.ndarray) -> np.ndarray:
    """Round float32 to the nearest number with 10 bits of mantissa, ties to even: TF32, as tensor cores read it.

    Args:
        x: [...] float32.

    Returns:
        The same shape, float32.

    Source: NVIDIA, "TensorFloat-32 in the A100"; the rounding is cuBLAS's, measured on an H200.
    Differs: the tensor core alone cuts bits off, which XLA's TF32_TF32_F32 preset lets it do.
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
    rounded = rounded.view(np.float32).reshape(np.shape(x))
    return np.where(np.isfinite(x), rounded, x)


def to_float8(x: np.ndarray) -> np.ndarray:
    """Round to float8 e4m3 with one scale for the whole tensor, and multiply by the scale again.

        s = max |x| / 448,    y = e4m3(x / s) * s

    Args:
        x: [...] float32.

    Returns:
        The same shape, float32.

    Source: torch `_scaled_mm`, torchao `float8_dynamic_activation_float8_weight`: per-tensor scales.
    Differs: scales per row or per block of 128 are finer.
    """
    scale = np.float32(np.abs(x).max(initial=0) / LARGEST_FLOAT8) or np.float32(1)
    return (x / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


# format -> what rounds to it; values stay in float32
ROUND: dict[str, Callable] = {"float32": as_it_is, "bfloat16": bfloat16_values, "float16": to_float16}
OPERANDS: dict[str, Callable] = {
    "stored": as_it_is,
    "tf32": to_tf32,
    "bfloat16": bfloat16_values,
    "float16": to_float16,
    "float8": to_float8,
}


def _cut(x, bits: int):
    """Cut a float32's mantissa to so many bits."""
    return (x.view(np.uint32) & np.uint32(0xFFFFFFFF << (23 - bits) & 0xFFFFFFFF)).view(np.float32)


# what a sum is rounded to after so many terms: (terms, rounding)
SUMS: dict[str, tuple[int, Callable]] = {
    "float16": (16, to_float16),  # one instruction of a tensor core adds 16 products
    "float8": (32, lambda x: _cut(x, FLOAT8_SUM_BITS)),
}


def narrow_product(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """Multiply [..., T, I] by [..., I, O]; the sum is rounded each time that a block of terms is added.

    Args:
        a: [..., T, I] float32.
        b: [..., I, O] float32.
        kind: a key of SUMS.

    Returns:
        [..., T, O] float32.

    Rounding: as SUMS says; terms of a block are added in float32.
    Source: torch `allow_fp16_accumulation`; `_scaled_mm` with `use_fast_accum`.
    Differs: by block length between chips and libraries.
    """
    terms, rounded = SUMS[kind]
    places = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    total = np.zeros((*places, a.shape[-2], b.shape[-1]), np.float32)
    for start in range(0, a.shape[-1], terms):
        here = slice(start, start + terms)
        total = rounded(total + a[..., here] @ b[..., here, :])
    return total


def kind_of(weight: Weight) -> str:
    """Return the format of a weight as its file names it."""
    if isinstance(weight, Blocks):
        return weight.format
    if isinstance(weight, ByRows):
        return getattr(weight, "kind", "F32")
    return {"uint16": "BF16", "float16": "F16"}.get(str(weight.dtype), "F32")


def rounded_for(rows: np.ndarray, kind: str) -> np.ndarray:
    """Round the inputs of a product as llama.cpp does for a weight of this format.

        q8_0: per 32 values q = rint(x * 127 / m), used as q * float16(m / 127);  q8_K: per 256, in float32

    Args:
        rows: [T, I] float32.
        kind: of the weight: F32, F16, BF16, Q8_0, Q4_K ...

    Source: llama.cpp `ggml-cpu/arch/x86/quants.c`, `ggml-quants.c`.
    Differs: ggml's portable code rounds half away from zero.
    """
    if kind in ("F16", "BF16"):
        return (to_float16 if kind == "F16" else bfloat16_values)(np.ascontiguousarray(rows))
    if not kind.startswith("Q"):
        return rows
    size = 256 if kind.endswith("_K") else 32
    if rows.shape[1] % size:
        size = 32
    blocks = rows.reshape(rows.shape[0], -1, size)
    most = np.abs(blocks).max(axis=-1, keepdims=True)
    inverse = np.where(most > 0, np.float32(127) / np.where(most > 0, most, 1), 0).astype(np.float32)
    step = most / np.float32(127)
    step = step if size == 256 else to_float16(step)
    return (np.rint(blocks * inverse) * step).reshape(rows.shape)
