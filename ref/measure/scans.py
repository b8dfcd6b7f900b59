"""Figures of a whole tap, each read off in one pass over its values."""

import numpy as np

from ref.ops.jit import kernel

PART = 1024  # values whose outcome is asked for at once, so that the loop over them is made of vectors


@kernel
def _all_below(x, most):
    for start in range(0, x.size, PART):
        beyond = 0
        for value in x[start : start + PART]:
            beyond += 0 if abs(value) < most else 1  # NaN is not below
        if beyond:
            return False
    return True


def all_below(x: np.ndarray, most: float = np.inf) -> bool:
    """Tell whether every value is finite and its size below a number."""
    flat = np.ascontiguousarray(x).reshape(-1)
    if flat.dtype.kind != "f":
        return bool((np.abs(flat) < most).all())
    return bool(_all_below(flat, flat.dtype.type(most)))


@kernel
def _largest_of_row(y, t):
    largest, strange = 0.0, 0
    for q in range(y.size):
        error = abs(np.float64(y[q]) - np.float64(t[q]))
        largest = error if error > largest else largest
        strange += 0 if error == error else 1
    return np.nan if strange else largest


@kernel
def _largest(y, t, valid):
    largest = 0.0
    for p in range(y.shape[0]):
        for row in range(y.shape[1]):
            if valid[row]:
                error = _largest_of_row(y[p, row], t[p, row])
                if not error <= largest:
                    largest = error
                if largest != largest:
                    return largest
    return largest


def largest_difference(value: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> float:
    """Return the largest |value - truth| of some tokens, NaN where any is.

    Args:
        value: [P, tokens, Q] float.
        truth: the same shape.
        valid: [tokens] bool, those that count.
    """
    return float(_largest(np.ascontiguousarray(value), np.ascontiguousarray(truth), valid))


@kernel(fastmath={"contract", "reassoc"})
def _moments(t):
    second = fourth = 0.0
    for value in t:
        square = np.float64(value) * np.float64(value)
        second += square
        fourth += square * square
    return second, fourth


def moments(x: np.ndarray) -> tuple[float, float]:
    """Return the sums of second and of fourth powers, in float64."""
    return _moments(np.ascontiguousarray(x).reshape(-1))


@kernel
def _all_bfloat16(bits):
    for start in range(0, bits.size, PART):
        finer = 0
        for value in bits[start : start + PART]:
            finer += 1 if value & 0xFFFF or value & 0x7F800000 == 0x7F800000 else 0
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
