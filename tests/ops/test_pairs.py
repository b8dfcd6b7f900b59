"""Every op's kernel equals its definition: one row an op says how input is made and how equal is equal."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from ref.ops import DEFINITION, KERNEL, Ops
from ref.ops.gelu import gelu_tanh, gelu_tanh_jit
from ref.ops.rope import rope_table
from ref.ops.visibility import visible_ranges

RANDOM = np.random.default_rng


def ulp(count):
    """Apart by so many units in the last place."""

    def check(kernel, definition, wide):
        np.testing.assert_array_max_ulp(kernel, definition, maxulp=count)

    return check


def sums(terms, slack=4):
    """Both within slack * n * eps of the float64 result, relative to its largest value: sums in any order."""

    def check(kernel, definition, wide):
        limit = slack * terms * np.finfo(kernel.dtype).eps * np.abs(wide).max()
        for name, value in (("kernel", kernel), ("definition", definition)):
            assert np.abs(value - wide).max() <= limit, name

    return check


def cancelling(atol):
    """Within 2 ulp, or within atol where the formula cancels (1 + tanh at x << 0, where ulp mean nothing)."""

    def check(kernel, definition, wide):
        near = 2 * np.spacing(np.abs(definition))
        assert (np.abs(kernel - definition) <= np.maximum(near, atol)).all()

    return check


class Pair(NamedTuple):
    make: Callable[[Any, Any], tuple]  # (generator, dtype) -> arguments
    check: dict[type, Callable]  # by dtype


def both(check):
    return {np.float32: check, np.float64: check}


def normal(*shape):
    return lambda r, dtype: r.standard_normal(shape).astype(dtype)


def _visible():
    first = np.zeros((2, 19), np.int64)
    first[1] = 4
    return visible_ranges(first, 0, 7)


def _rotation(r, dtype):
    positions = r.integers(0, 1000, (2, 19))
    return (normal(2, 19, 6, 10)(r, dtype), *rope_table(positions, 10, 1e4, 1.0, dtype))


def _qkv(r, dtype):
    return tuple(normal(2, 19, heads, 10)(r, dtype) for heads in (12, 3, 3))


def _embedding(r, dtype):
    return r.integers(0, 97, (2, 19)), normal(97, 36)(r, np.float32), np.sqrt(36.0), dtype


def _probs(r, dtype):
    return DEFINITION.softmax(normal(2, 12, 19, 19)(r, dtype), _visible()), normal(2, 19, 3, 10)(r, dtype)


# Float32 throughout: within 2 ulp above 0, where measured 1.7; below it, 5.1e-8 at x = -1.19.
GELU = {np.float32: cancelling(6e-8), np.float64: cancelling(1e-14)}

# Ops that work in float64 round once, so float32 results are one ulp apart at most. In float64 itself their sums
# and divisions are ordered differently: a few ulp, more in a sum of 640. Products and sums in the input's dtype:
# n * eps.
PAIRS = {
    "embed": Pair(_embedding, both(ulp(0))),
    "rms_norm": Pair(
        lambda r, dtype: (normal(5, 7, 640)(r, dtype), 0.4 * normal(640)(r, dtype), 1e-6),
        {np.float32: ulp(1), np.float64: ulp(64)},
    ),
    "linear": Pair(lambda r, dtype: (normal(2, 19, 300)(r, dtype), normal(70, 300)(r, dtype)), both(sums(300))),
    "linears": Pair(lambda r, dtype: (normal(2, 19, 300)(r, dtype), normal(5, 70, 300)(r, dtype)), both(sums(300))),
    "rotate": Pair(_rotation, {np.float32: ulp(1), np.float64: sums(4)}),
    "scores": Pair(lambda r, dtype: (*_qkv(r, dtype)[:2], 15**-0.5), both(sums(10))),
    "softmax": Pair(
        lambda r, dtype: (3 * normal(2, 12, 19, 19)(r, dtype), _visible()),
        {np.float32: ulp(1), np.float64: ulp(8)},
    ),
    "mix": Pair(_probs, both(sums(19))),
    "attend": Pair(lambda r, dtype: (*_qkv(r, dtype), _visible(), 15**-0.5), both(sums(10 + 19))),
    "average_pool": Pair(lambda r, dtype: (normal(2, 144, 7)(r, dtype), 4), {np.float32: ulp(1), np.float64: sums(16)}),
    "layer_norm": Pair(
        lambda r, dtype: (3 + normal(5, 7, 1152)(r, dtype), normal(1152)(r, dtype), normal(1152)(r, dtype), 1e-6),
        {np.float32: cancelling(1e-9), np.float64: sums(16)},
    ),
    "gelu": Pair(lambda r, dtype: (4 * normal(5, 44)(r, dtype),), GELU),
    "geglu": Pair(
        lambda r, dtype: (4 * normal(5, 44)(r, dtype), normal(5, 44)(r, dtype)),
        {np.float32: cancelling(1e-14), np.float64: cancelling(1e-14)},
    ),
    "filtered_probs": Pair(lambda r, dtype: (3 * normal(97)(r, dtype), 0.8, 40, 0.9), both(ulp(64))),
}


def _to_float64(arguments):
    widened = [np.float64 if value is np.float32 else value for value in arguments]
    return tuple(
        value.astype(np.float64) if getattr(value, "dtype", None) == np.float32 else value for value in widened
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", Ops._fields)
def test_kernel_equals_definition(op, dtype):
    pair = PAIRS[op]
    arguments = pair.make(RANDOM(7), dtype)
    kernel, definition, exact = (
        np.concatenate(value, axis=-1) if isinstance(value, tuple) else value
        for value in (
            getattr(KERNEL, op)(*arguments),
            getattr(DEFINITION, op)(*arguments),
            getattr(DEFINITION, op)(*_to_float64(arguments)),
        )
    )
    assert kernel.shape == definition.shape
    assert kernel.dtype == definition.dtype == (np.float64 if op == "filtered_probs" else dtype)
    pair.check[dtype](kernel, definition, exact)


@pytest.mark.parametrize("op", Ops._fields)
@pytest.mark.parametrize("name", ["definition", "kernel"])
def test_no_op_writes_into_its_arguments(op, name):
    arguments = PAIRS[op].make(RANDOM(8), np.float32)
    before = [np.array(value) if isinstance(value, np.ndarray) else value for value in arguments]
    getattr({"definition": DEFINITION, "kernel": KERNEL}[name], op)(*arguments)
    for value, kept in zip(arguments, before, strict=True):
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_inputs_take_the_parallel_path_and_are_equal_too(dtype):
    r = RANDOM(9)
    x, scale = normal(70, 640)(r, dtype), normal(640)(r, dtype)
    PAIRS["rms_norm"].check[dtype](KERNEL.rms_norm(x, scale, 1e-6), DEFINITION.rms_norm(x, scale, 1e-6), None)
    PAIRS["geglu"].check[dtype](KERNEL.geglu(x, x[::-1]), DEFINITION.geglu(x, x[::-1]), None)
    PAIRS["gelu"].check[dtype](KERNEL.gelu(x), DEFINITION.gelu(x), None)
    heads = normal(3, 70, 8, 64)(r, dtype)
    cos, sin = rope_table(np.tile(np.arange(70), (3, 1)), 64, 1e6, 8.0, dtype)
    wide = DEFINITION.rotate(*(a.astype(np.float64) for a in (heads, cos, sin)))
    PAIRS["rotate"].check[dtype](KERNEL.rotate(heads, cos, sin), DEFINITION.rotate(heads, cos, sin), wide)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_alone(dtype):
    x = np.linspace(-12, 12, 4001).astype(dtype)
    GELU[dtype](gelu_tanh_jit(x), gelu_tanh(x), None)


def test_float32_gelu_above_zero_is_within_2_ulp():
    x = np.linspace(0, 12, 4001, dtype=np.float32)
    np.testing.assert_array_max_ulp(gelu_tanh_jit(x), gelu_tanh(x), maxulp=2)
