"""The QAT step: its gradient is torch's with a straight-through copy, and it learns what rounding allows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref.ops.blocks import decode
from ref.quant.encode import ENCODERS, encode
from ref.quant.qat import fake_quantize, qat_step, soft_cross_entropy, straight_through

KINDS = pytest.mark.parametrize("kind", ENCODERS)


def some(seed, T=6, O=5, I=32):  # noqa: E741 - axis letters
    rng = np.random.default_rng(seed)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((T, I), (O, I)))
    logits = x @ rng.standard_normal((O, I)).astype(np.float32).T
    target = np.exp(logits - logits.max(-1, keepdims=True))
    return x, weight, target / target.sum(-1, keepdims=True)


@KINDS
def test_fake_quantisation_is_encoding_and_decoding(kind):
    weight = some(1)[1]
    np.testing.assert_array_equal(fake_quantize(weight, kind), decode(encode(weight, kind)))
    assert (fake_quantize(weight, kind) != weight).any()


def test_the_gradient_goes_straight_through():
    upstream = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(straight_through(upstream), upstream)


@given(seed=st.integers(0, 999), scale=st.sampled_from([1.0, 100.0, 1e4]))
def test_the_loss_has_the_gradient_of_finite_differences(seed, scale):
    rng = np.random.default_rng(seed)
    z, p = rng.standard_normal((2, 4)), rng.dirichlet(np.ones(4), 2)
    _, slope = soft_cross_entropy(z, p)
    for t in range(2):
        for v in range(4):
            moved = [z.copy(), z.copy()]
            moved[0][t, v] += 1e-5
            moved[1][t, v] -= 1e-5
            ahead, behind = (soft_cross_entropy(one, p)[0] for one in moved)
            assert slope[t, v] == pytest.approx((ahead - behind) / 2e-5, abs=1e-8)
    loss, slope = soft_cross_entropy(scale * z, p)
    assert np.isfinite(loss)
    assert np.isfinite(slope).all()


def test_the_loss_is_least_at_the_target_and_is_its_entropy_there():
    p = np.random.default_rng(2).dirichlet(np.ones(7), 3)
    loss, slope = soft_cross_entropy(np.log(p), p)
    assert loss == pytest.approx(-(p * np.log(p)).sum(-1).mean())
    np.testing.assert_allclose(slope, 0, atol=1e-16)
    one_hot = np.eye(7)[[1, 2, 3]]
    assert soft_cross_entropy(np.log(p), one_hot)[0] == pytest.approx(-np.log(p[[0, 1, 2], [1, 2, 3]]).mean())


@pytest.mark.witness
@KINDS
def test_a_step_is_torch_s(kind):
    torch = pytest.importorskip("torch")
    x, weight, target = some(3)
    w = torch.tensor(weight, requires_grad=True)
    copy = w + (torch.tensor(fake_quantize(weight, kind)) - w).detach()
    loss = torch.nn.functional.cross_entropy(torch.tensor(x) @ copy.T, torch.tensor(target))
    loss.backward()
    got, before = qat_step(x, weight, target, kind, 0.5)
    np.testing.assert_allclose(got, weight - 0.5 * w.grad.numpy(), rtol=1e-5, atol=1e-6)
    assert before == pytest.approx(loss.item(), rel=1e-5)


@KINDS
def test_steps_bring_the_quantised_model_nearer_to_the_target(kind):
    x, weight, target = some(4, T=40)
    losses = []
    for _ in range(60):
        weight, loss = qat_step(x, weight, target, kind, 0.3)
        losses.append(loss)
    entropy = -(target * np.log(target)).sum(-1).mean()
    assert losses[-1] - entropy < (losses[0] - entropy) / 4
