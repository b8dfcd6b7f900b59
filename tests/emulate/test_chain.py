"""Products as one chain of sums: equal to a plain loop, bit for bit, and further off than BLAS where sums are long."""

import numpy as np
import pytest

from ref.emulate.chain import LANES, TOKENS, chain_product


def plain_product(a, b):
    out = np.zeros((len(a), len(b)), np.float32)
    for i in range(a.shape[1]):
        out = out + a[:, i, None] * b[None, :, i]
    return out


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(1, 1, 1), (3, 70, 130), (TOKENS, 33, LANES), (TOKENS + 1, 7, LANES + 1), (2, 0, 3), (0, 4, 5), (9, 640, 2)],
)
def test_equals_a_plain_loop(rows, inputs, outputs):
    rng = np.random.default_rng(rows + inputs + outputs)
    a, b = rng.standard_normal((rows, inputs), np.float32), rng.standard_normal((outputs, inputs), np.float32)
    np.testing.assert_array_equal(chain_product(a, b), plain_product(a, b))


def test_takes_any_strides():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 40), np.float32)[::-1, ::2], rng.standard_normal((20, 9), np.float32).T
    np.testing.assert_array_equal(chain_product(a, b), plain_product(a, b))


def test_sums_in_any_order():
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((5, 90), np.float32), rng.standard_normal((70, 90), np.float32)
    order = rng.permutation(90)
    np.testing.assert_array_equal(chain_product(a, b, order), plain_product(a[:, order], b[:, order]))


def test_long_chains_err_more_than_blas():
    # cuBLAS at large shapes errs as a chain does: a floor without one called clean captures of 1B and larger bugs
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((4, 10_240), np.float32), rng.standard_normal((200, 10_240), np.float32)
    truth = a.astype(np.float64) @ b.astype(np.float64).T
    chain, blas = (np.linalg.norm(y - truth) / np.linalg.norm(truth) for y in (chain_product(a, b), a @ b.T))
    assert 1e-6 < chain < 4e-6
    assert chain > 2 * blas
