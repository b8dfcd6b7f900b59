"""A number format inside a product: of its weights, of its sum."""

from collections.abc import Callable, Iterator
from functools import partial

import ml_dtypes
import numpy as np

from ref.emulate.context import join_heads
from ref.emulate.one_pass import as_held
from ref.emulate.operands import LARGEST_FLOAT8, ROUND, to_float8, to_float16
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.products import (
    PRODUCTS,
    bias_of,
    held_values,
    in_heads,
    layers_of,
    product_rule,
    screen_of,
    values_of,
)
from ref.ops.rounding import bfloat16_values

HALF = 0.6  # share of an error that may be left on a few outputs to be worth a run
BLOCKS = (8, 16, 32, 64, 128, 256)


def _integers(w: np.ndarray, most: float, axis: int | None, low: float | None = None, way: str = "/") -> np.ndarray:
    """Round to steps of max |w| / most, of the whole or along an axis; ties fall as the quotient is formed."""
    w = w.astype(np.float32)
    largest = np.abs(w).max(axis=axis, keepdims=axis is not None)
    largest = np.where(largest == 0, 1, largest).astype(np.float32)
    count = np.float32(most)
    if way == "/":  # by a scale
        scale = largest / count
        return np.clip(np.rint(w / scale), -most if low is None else low, most) * scale
    steps = np.rint(w * count / largest) if way == "*/" else np.rint(w * (count / largest))
    return np.clip(steps, -most if low is None else low, most) * largest / count


def _blocks(rounded: Callable, size: int) -> Callable:
    """Round blocks of a row, the last of which may be shorter."""

    def change(w):
        if w.shape[1] <= size:
            return None
        whole = w.shape[1] // size * size
        parts = [rounded(w[:, :whole].reshape(-1, size)).reshape(len(w), whole)]
        if whole < w.shape[1]:
            parts.append(rounded(w[:, whole:]))
        return np.concatenate(parts, axis=1)

    return change


def _float8(w: np.ndarray, axis: int | None) -> np.ndarray:
    scale = np.abs(w).max(axis=axis, keepdims=axis is not None) / LARGEST_FLOAT8
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return (w / scale).astype(np.float32).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


def _plain(rounded) -> Callable:
    return lambda w: rounded(np.ascontiguousarray(w, np.float32))


# (format, "scale per"; after a comma another way to write the same)
WEIGHTS: dict[tuple[str, str], Callable] = {
    ("bfloat16", "value"): _plain(bfloat16_values),
    ("float16", "value"): _plain(to_float16),
    ("float8", "tensor"): _plain(to_float8),
    ("float8", "channel"): lambda w: _float8(w, 1),
    ("float8", "value"): lambda w: w.astype(np.float32).astype(ml_dtypes.float8_e4m3fn).astype(np.float32),
    ("float8", "block of 128"): _blocks(lambda w: _float8(w, 1), 128),
    ("int8", "channel, 127.5"): lambda w: _integers(w, 127.5, 1, -128),
}
for _kind, _most in (("int8", 127.0), ("int4", 7.0)):
    for _way in ("/", "*/", "*"):
        WEIGHTS[_kind, f"tensor, {_way}"] = partial(_integers, most=_most, axis=None, way=_way)
        WEIGHTS[_kind, f"channel, {_way}"] = partial(_integers, most=_most, axis=1, way=_way)
        for _size in (32, 64, 128):
            _rounded = partial(_integers, most=_most, axis=1, way=_way)
            WEIGHTS[_kind, f"block of {_size}, {_way}"] = _blocks(_rounded, _size)


def rounded_weight(weight: np.ndarray, kind: str, per: str, held: str) -> np.ndarray | None:
    """Round a weight, and again to what the producer holds weights in."""
    rounded = WEIGHTS[kind, per](weight)
    return None if rounded is None else as_held(rounded.astype(np.float32), held)


def _weights(clue: Clue) -> Iterator[Hypothesis]:
    made, screen = PRODUCTS[clue.group], screen_of(clue)
    whole = values_of(clue, getattr(layers_of(clue)[clue.layer], made.field))
    error = float(np.linalg.norm(screen.y - screen.t))
    found = []
    for kind, per in WEIGHTS:
        of_tensor = per.startswith("tensor")
        rounded = rounded_weight(whole if of_tensor else whole[screen.rows], kind, per, clue.there.one_pass.held)
        if rounded is None:
            continue
        rounded = rounded[screen.rows] if of_tensor else rounded
        moved = screen.x @ (rounded - whole[screen.rows]).T
        left = float(np.linalg.norm(screen.y - screen.t - moved)) / error if error else 1.0
        found.append((left, kind, per))
    for left, kind, per in sorted(found)[:2]:
        if left < HALF:
            yield _rounded_weights(clue, made, kind, per)


def _rounded_weights(clue: Clue, made, kind: str, per: str) -> Hypothesis:
    layer, held = layers_of(clue)[clue.layer], clue.there.one_pass.held
    rule = product_rule(
        clue, partial(_rounded_values, layer, made.field, held, kind, per), bias_of(clue, layer, made.field)
    )
    per = per.split(",")[0]
    mutant = mutant_of(
        "weights_rounded", f"The weights of {made.field} are rounded to {kind}, a scale per {per}.", {clue.group: rule}
    )
    if per == "value":
        mutant = mutant._replace(what=f"The weights of {made.field} are rounded to {kind}.")
    return Hypothesis(mutant, (Parameter("format", kind), Parameter("per", per.split()[0], None, None, per)), 1)


def _rounded_values(layer, field: str, held: str, kind: str, per: str) -> np.ndarray:
    rounded = rounded_weight(held_values(layer, field, held), kind, per, held)
    assert rounded is not None
    return rounded


def _sums(clue: Clue) -> Iterator[Hypothesis]:
    """Add up in a narrow format after each block of terms."""
    made, screen = PRODUCTS[clue.group], screen_of(clue)
    layer = layers_of(clue)[clue.layer]
    weight = values_of(clue, getattr(layer, made.field))
    error = float(np.linalg.norm(screen.y - screen.t))
    bias = bias_of(clue, layer, made.field)
    found = []
    for kind in ("bfloat16", "float16"):
        for size in (*BLOCKS, weight.shape[1]):
            y = in_blocks(screen.x, weight[screen.rows], size, ROUND[kind]) + bias[screen.rows]
            found.append((float(np.linalg.norm(screen.y - y)) / error if error else 1.0, kind, size))
    left, kind, size = min(found)
    if left > HALF:
        return
    held = clue.there.one_pass.held

    def rule(at):
        x = join_heads(at[made.source])
        values = np.asarray(held_values(layer, made.field, held), at.ops.dtype)
        y = in_blocks(x.reshape(-1, x.shape[-1]), values, size, ROUND[kind]) + bias
        return in_heads(at, y.astype(at.ops.dtype).reshape(*x.shape[:-1], -1))

    words = f"blocks of {size}" if size < weight.shape[1] else "one block"
    mutant = mutant_of("accumulated_in", f"The sum is kept in {kind}, rounded after {words}.", {clue.group: rule})
    yield Hypothesis(mutant, (Parameter("format", kind, None, "float32"), Parameter("block", size)), 1)


def in_blocks(x: np.ndarray, weight: np.ndarray, size: int, rounded: Callable) -> np.ndarray:
    """Multiply, and round the parts of the sum and the sum after each block of terms."""
    total = np.zeros((len(x), len(weight)), np.float32)
    for start in range(0, x.shape[1], size):
        part = rounded((x[:, start : start + size] @ weight[:, start : start + size].T).astype(np.float32))
        total = rounded(total + part)
    return total.astype(np.float64)


FORMATS = (
    Family("format of weights", frozenset(PRODUCTS), _weights),
    Family("format of sums", frozenset(PRODUCTS), _sums),
)
