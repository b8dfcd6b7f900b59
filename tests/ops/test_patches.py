"""Patches and pooling, against torch's numbers and a scalar oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive
from support.strategies import dtypes, seeds

from ref.ops.linear import linear
from ref.ops.patches import average_pool, average_pool_jit, split_patches


@given(seed=seeds, images=st.integers(1, 2), patch=st.integers(1, 4), rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_patches_and_a_linear_layer_are_a_strided_convolution(seed, images, patch, rows, columns):
    r = np.random.default_rng(seed)
    pixels = r.standard_normal((images, 3, rows * patch, columns * patch))
    weight = r.standard_normal((5, 3, patch, patch))
    got = linear(split_patches(pixels, patch), weight.reshape(5, -1))
    for b in range(images):
        for y in range(rows):
            for x in range(columns):
                square = pixels[b, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
                wanted = (square[None] * weight).sum(axis=(1, 2, 3))
                np.testing.assert_allclose(got[b, y * columns + x], wanted, rtol=0, atol=1e-12 * 3 * patch**2)


def test_a_pixel_goes_to_its_place():
    pixels = np.zeros((1, 3, 6, 8))
    pixels[0, 2, 3, 5] = 1  # channel 2, row 3, column 5; patches of 2: row 1, column 2 of 3 x 4
    assert np.argwhere(split_patches(pixels, 2)).tolist() == [[0, 1 * 4 + 2, (2 * 2 + 1) * 2 + 1]]


@pytest.mark.parametrize("pool_of", [average_pool, average_pool_jit])
@given(seed=seeds, pool=st.integers(1, 4), across=st.integers(1, 3), dtype=dtypes)
def test_pooling_equals_the_oracle(pool_of, seed, pool, across, dtype):
    x = np.random.default_rng(seed).standard_normal((2, (pool * across) ** 2, 3)).astype(dtype)
    got = pool_of(x, pool)
    assert got.dtype == dtype
    wanted = np.array([naive.average_pool(image.astype(float).tolist(), pool) for image in x])
    np.testing.assert_allclose(got, wanted, rtol=2 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


def test_pooling_goes_through_the_square():
    x = np.arange(16.0)[None, :, None]  # 4 x 4 patches
    assert average_pool(x, 2).ravel().tolist() == [2.5, 4.5, 10.5, 12.5]  # not 1.5, 5.5, 9.5, 13.5


@pytest.mark.witness
def test_both_ends_equal_torch():
    import torch

    r = np.random.default_rng(5)
    pixels, weight, bias = r.standard_normal((2, 3, 20, 20)), r.standard_normal((7, 3, 5, 5)), r.standard_normal(7)
    wanted = torch.nn.functional.conv2d(*map(torch.from_numpy, (pixels, weight, bias)), stride=5)
    patches = linear(split_patches(pixels, 5), weight.reshape(7, -1), bias)
    np.testing.assert_allclose(patches, wanted.flatten(2).transpose(1, 2).numpy(), rtol=0, atol=1e-12)
    pooled = torch.nn.functional.avg_pool2d(wanted, 2).flatten(2).transpose(1, 2).numpy()
    np.testing.assert_allclose(average_pool_jit(patches, 2), pooled, rtol=0, atol=1e-12)
