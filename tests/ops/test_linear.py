"""Products with weights and the embedding: every way a weight is held, every path through the kernel."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import naive
from support.strategies import dtypes, seeds
from support.threads import TWO_THREADS, threads

from ref.ops.blocks import FORMATS, Blocks
from ref.ops.linear import FEW, ByRows, embed, embed_jit, linear, linear_jit, linears_jit, widen, widen_jit
from ref.ops.product import OUTPUTS
from ref.ops.rounding import round_bfloat16, widen_bfloat16

LINEAR = pytest.mark.parametrize("project", [linear, linear_jit])
EMBED = pytest.mark.parametrize("look_up", [embed, embed_jit])


def limit(x, weight):
    """The bound of a sum of C products in x.dtype, in any order: C * eps * sum of magnitudes."""
    magnitudes = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)).T
    return x.shape[-1] * np.finfo(x.dtype).eps * magnitudes + np.finfo(x.dtype).tiny


@LINEAR
@given(seed=seeds, rows=st.integers(1, 2 * FEW + 1), R=st.integers(1, 9), C=st.integers(1, 40), dtype=dtypes)
def test_against_exact_sums(project, seed, rows, R, C, dtype):
    random = np.random.default_rng(seed)
    x, weight = random.standard_normal((rows, C)).astype(dtype), random.standard_normal((R, C)).astype(dtype)
    y = project(x, weight)
    assert y.dtype == dtype
    assert (np.abs(y - np.array(naive.linear(x.tolist(), weight.tolist()))) <= limit(x, weight)).all()


@LINEAR
@pytest.mark.parametrize("rows", [1, FEW, FEW + 1, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("held", ["float32", "float64", "bfloat16"])
def test_a_weight_means_its_widened_values(project, rows, dtype, held):
    random = np.random.default_rng(rows)
    x, weight = random.standard_normal((rows, 50)).astype(dtype), random.standard_normal((30, 50))
    weight = round_bfloat16(weight) if held == "bfloat16" else weight.astype(held)
    y = project(x, weight)
    assert y.dtype == dtype
    exact = x.astype(np.float64) @ widen(weight).astype(dtype).astype(np.float64).T
    assert (np.abs(y - exact) <= limit(x, widen(weight))).all()


@LINEAR
def test_leading_axes_are_kept_and_views_are_read_in_their_own_order(project):
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((5, 2, 3)).transpose(1, 0, 2), random.standard_normal((3, 7)).T
    y = project(x, weight)
    assert y.shape == (2, 5, 7)
    np.testing.assert_allclose(y, np.einsum("btc,rc->btr", x, weight), atol=1e-14)
    assert project(x[:, :0], weight).shape == (2, 0, 7)


@LINEAR
def test_a_square_weight_is_not_transposed(project):
    np.testing.assert_array_equal(project(np.array([[1.0, 0.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])), [[1, 3]])


def test_many_tiles_give_what_one_tile_gives(monkeypatch):
    random = np.random.default_rng(1)
    x, weight = random.standard_normal((FEW + 1, 16)), round_bfloat16(random.standard_normal((100, 16)))
    whole = linear_jit(x, weight)
    monkeypatch.setattr(sys.modules["ref.ops.linear"], "TILE", 16 * OUTPUTS)  # the last tile has 4 rows
    np.testing.assert_array_equal(linear_jit(x, weight), whole)


@TWO_THREADS
@pytest.mark.parametrize("rows", [1, FEW, 64])
@pytest.mark.parametrize("held", ["float32", "bfloat16"])
def test_threads_change_no_bit(rows, held):
    random = np.random.default_rng(2)
    x, weight = (
        random.standard_normal((rows, 640), np.float32),
        random.standard_normal((1000, 640), np.float32),
    )
    weight = round_bfloat16(weight) if held == "bfloat16" else weight
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(linear_jit(x, weight))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("rows", [1, FEW, FEW + 1])
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=TWO_THREADS)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_together_give_what_each_gives_alone(rows, count, dtype):
    random = np.random.default_rng(4)
    x, floats = random.standard_normal((2, rows, 256)).astype(dtype), random.standard_normal((90, 256)).astype(dtype)
    blocks = [
        Blocks(random.integers(0, 64, (70 + i, 256 // form.length * form.size), np.uint8), name)
        for i, (name, form) in enumerate(FORMATS.items())
    ]
    blocks = [
        b._replace(scale=random.uniform(1, 2, b.rows).astype(np.float32)) if b.format == "SFP8" else b for b in blocks
    ]
    others = floats, round_bfloat16(floats.astype(np.float32)), ByRows(floats.shape, floats.__getitem__)
    for weights in ([], others[:2], others, blocks, [*blocks, others[0], others[1]]):
        with threads(count):
            together, alone = linears_jit(x, weights), [linear_jit(x, weight) for weight in weights]
        assert len(together) == len(alone)
        for got, want in zip(together, alone, strict=True):
            np.testing.assert_array_equal(got, want, strict=True)


@EMBED
@given(seed=seeds, dtype=dtypes)
def test_embedding_against_the_oracle(look_up, seed, dtype):
    random = np.random.default_rng(seed)
    table, ids = random.standard_normal((11, 5)), random.integers(0, 11, (2, 7))
    h = look_up(ids, table, np.sqrt(5.0), dtype)
    assert h.dtype == dtype
    wanted = [naive.embed(row, table.tolist()) for row in ids]
    np.testing.assert_array_equal(h, np.array(wanted).astype(dtype))


@EMBED
def test_embedding_of_bfloat16_bits_is_that_of_their_values_and_the_scale_is_not_rounded(look_up):
    bits = round_bfloat16(np.random.default_rng(3).standard_normal((9, 640)))
    ids, scale = np.array([[3, 3, 8]]), np.sqrt(640.0)
    h = look_up(ids, bits, scale, np.float32)
    np.testing.assert_array_equal(h, look_up(ids, widen(bits), scale, np.float32))
    np.testing.assert_array_equal(h[0, 0], h[0, 1])
    assert not np.array_equal(h, look_up(ids, bits, 25.25, np.float32))  # sqrt(640) in bfloat16


HELD = [("f4", "f2"), ("f4", "f4"), ("f4", "u2"), ("f8", "u2"), ("f8", "f2"), ("f8", "f4")]


@TWO_THREADS
@pytest.mark.parametrize(("x_dtype", "held"), HELD)
@pytest.mark.parametrize("rows", [1, 2, FEW])
def test_bits_do_not_depend_on_threads_where_blas_would_split_one_row(x_dtype, held, rows):
    random = np.random.default_rng(3)
    x, weight = random.standard_normal((rows, 640)).astype(x_dtype), random.standard_normal((8192, 640)).astype("f4")
    weight = round_bfloat16(weight) if held == "u2" else weight.astype(held)
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(linear_jit(x, weight))
    np.testing.assert_array_equal(*results)


@TWO_THREADS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("inputs", [588, 4304, 1152, 40, 33, 31])  # 588 and 4304 are the vision tower's
def test_bits_do_not_depend_on_threads_where_a_sum_is_no_multiple_of_32_long(inputs, dtype):
    r = np.random.default_rng(inputs)
    x, weight = r.standard_normal((300, inputs)).astype(dtype), r.standard_normal((1152, inputs)).astype(dtype)
    results = []
    for count in (1, 2):
        with threads(count):
            results.append(linear_jit(x, weight))
    np.testing.assert_array_equal(*results)
    wide = x.astype(np.longdouble) @ weight.T.astype(np.longdouble)
    assert (np.abs(results[0] - wide) <= limit(x, weight)).all()


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64, np.uint16, "Q8_0", "Q4_K"])
def test_the_kernel_of_widen_gives_the_same_values(kind):
    rng = np.random.default_rng(1)
    if isinstance(kind, str):
        size = FORMATS[kind].size * 256 // FORMATS[kind].length
        weight = Blocks(rng.integers(0, 64, (3, size), np.uint8), kind)
    else:
        weight = rng.integers(0, 9, (3, 256)).astype(kind)
    np.testing.assert_array_equal(widen_jit(weight), widen(weight))


def test_a_product_has_the_same_bits_whatever_a_weight_is_held_as():
    random = np.random.default_rng(5)
    bits = round_bfloat16(random.standard_normal((3000, 4096), np.float32))
    x = random.standard_normal((FEW + 1, 4096), np.float32)
    np.testing.assert_array_equal(linear_jit(x, bits), linear_jit(x, widen_bfloat16(bits)))
