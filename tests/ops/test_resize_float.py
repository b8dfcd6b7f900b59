"""Resizing floats: the kernel equals the definition, and laws of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.resized import make, sides
from support.strategies import seeds

from ref.ops.resize import resize_float, resize_float_jit, resize_pillow_jit

FLOATS = pytest.mark.parametrize("resize", [resize_float, resize_float_jit], ids=["definition", "kernel"])


@given(Y=sides, X=sides, height=sides, width=sides, seed=seeds)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_kernel_equals_definition(Y, X, height, width, seed, dtype):
    image = make("random", Y, X, seed).astype(dtype)
    kernel, definition = resize_float_jit(image, height, width), resize_float(image, height, width)
    assert kernel.dtype == definition.dtype == dtype
    limit = np.spacing(dtype(255)) + 4 * (Y + X) * np.finfo(np.float64).eps * 255
    assert np.abs(kernel - definition).max() <= limit


@FLOATS
def test_bytes_become_float32_numbers(resize):
    image = make("random", 9, 7, 1)
    out = resize(image, 4, 5)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, resize(image.astype(np.float64), 4, 5).astype(np.float32))


@given(Y=sides, X=sides, height=sides, width=sides, level=st.integers(0, 255))
def test_a_flat_image_stays_flat_and_others_within_their_range(Y, X, height, width, level):
    flat = np.full((Y, X, 3), level, np.uint8)
    assert (resize_pillow_jit(flat, height, width) == level).all()
    np.testing.assert_allclose(resize_float_jit(flat, height, width), level, rtol=1e-6)
    image = make("random", Y, X, level)
    for resize in (resize_pillow_jit, resize_float_jit):
        out = resize(image, height, width)
        assert out.min() >= image.min() - 1e-4
        assert out.max() <= image.max() + 1e-4


@given(Y=sides, X=sides, height=sides, width=sides, seed=seeds)
def test_mirrored_in_mirrored_out_and_transposed_too(Y, X, height, width, seed):
    image = make("random", Y, X, seed)
    out = resize_float_jit(image, height, width)
    np.testing.assert_allclose(resize_float_jit(image[::-1, ::-1], height, width)[::-1, ::-1], out, atol=1e-4)
    turned = resize_float_jit(image.swapaxes(0, 1), width, height).swapaxes(0, 1)
    np.testing.assert_allclose(turned, out, atol=1e-4)
    bytes_turned = resize_pillow_jit(image.swapaxes(0, 1), width, height, "rows").swapaxes(0, 1)
    np.testing.assert_array_equal(bytes_turned, resize_pillow_jit(image, height, width, "columns"))
