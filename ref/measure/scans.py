"""Figures of a whole tap, each read off in one pass over its values."""

import numpy as np

from ref.ops.jit import kernel

# what makes LLVM take vectors: the outcome is asked for after PART values, and loops go by index, not by value
PART = 1024


@kernel
def _all_below(x, most):
    for start in range(0, x.size, PART):
        beyond, part = 0, x[start : start + PART]
        for i in range(part.size):
            beyond += 0 if abs(part[i]) < most else 1  # NaN is not below
        if beyond:
            return False
    return True


def all_below(x: np.ndarray, most: float = np.inf) -> bool:
    """Tell whether every value is finite and its size below a number."""
    flat = np.ascontiguousarray(x).reshape(-1)
    if flat.dtype.kind != "f":
        return bool((np.abs(flat) < most).all())
    return bool(_all_below(flat, flat.dtype.type(most)))


SIZE_BITS = np.uint64(2**63 - 1)  # of a float64: all but its sign


@kernel
def _largest_of_row(y, t):
    # sizes are ordered as their bits are, what is no number above all; vectors know this, but not the larger of floats
    largest = np.uint64(0)
    for q in range(y.size):
        error = np.float64(np.float64(y[q]) - np.float64(t[q])).view(np.uint64) & SIZE_BITS
        largest = error if error > largest else largest
    return largest


@kernel
def _largest(y, t, valid):
    largest = np.uint64(0)
    for p in range(y.shape[0]):
        for row in range(y.shape[1]):
            if valid[row]:
                largest = max(largest, _largest_of_row(y[p, row], t[p, row]))
    return largest


def largest_difference(value: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> float:
    """Return the largest |value - truth| of some tokens, NaN where any is.

    Args:
        value: [P, tokens, Q] float.
        truth: the same shape.
        valid: [tokens] bool, those that count.
    """
    bits = _largest(np.ascontiguousarray(value), np.ascontiguousarray(truth), valid)
    return float(np.uint64(bits).view(np.float64))


@kernel(fastmath={"contract", "reassoc"})
def _moments(t):
    second = fourth = 0.0
    for i in range(t.size):
        square = np.float64(t[i]) * np.float64(t[i])
        second += square
        fourth += square * square
    return second, fourth


def moments(x: np.ndarray) -> tuple[float, float]:
    """Return the sums of second and of fourth powers, in float64."""
    return _moments(np.ascontiguousarray(x).reshape(-1))


@kernel
def _all_bfloat16(bits):
    for start in range(0, bits.size, PART):
        finer, part = 0, bits[start : start + PART]
        for i in range(part.size):
            finer += 1 if (part[i] & 0xFFFF != 0) | (part[i] & 0x7F800000 == 0x7F800000) else 0
        if finer:
            return False
    return True


def is_of_format(x: np.ndarray, dtype: str) -> bool:
    """Tell whether all of a float32 array is finite and of a format; only float32 and bfloat16 are looked for."""
    if x.dtype != np.float32 or dtype not in ("float32", "bfloat16"):
        return False
    if dtype == "float32":
        return all_below(x)
    return bool(_all_bfloat16(np.ascontiguousarray(x).reshape(-1).view(np.uint32)))
