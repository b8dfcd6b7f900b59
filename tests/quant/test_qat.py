"""The QAT step: its gradient is torch's with a straight-through copy, and it learns what rounding allows."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref.errors import BadInput
from ref.quant.encode import ENCODERS
from ref.quant.qat import fake_quantize, qat_step, soft_cross_entropy

KINDS = pytest.mark.parametrize("kind", ENCODERS)


def some(seed, T=6, O=5, I=32):  # noqa: E741 - axis letters
    rng = np.random.default_rng(seed)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((T, I), (O, I)))
    logits = x @ rng.standard_normal((O, I)).astype(np.float32).T
    target = np.exp(logits - logits.max(-1, keepdims=True))
    return x, weight, target / target.sum(-1, keepdims=True)


# a row whose scale is 1 by its first value, and what its rounding rule leaves of it
BY_HAND = {
    "INT4": ([7, 3.4, -1.6, 0.5, 1.5, -2.5, 0.25], [7, 3, -2, 0, 2, -2, 0]),  # half to even
    "Q8_0": ([127, 3.4, -1.6, 0.5, 1.5, -2.5, 0.25], [127, 3, -2, 1, 2, -3, 0]),  # half away from zero
    "Q4_0": ([-8, 3.4, -1.6, 0.5, 1.5, -2.5, 7.9], [-8, 3, -2, 1, 2, -2, 7]),  # half up, and no more than 7
    "SFP8": ([1.875, 1.0625, -0.484375, 0.0075683594, 1.1920929e-7], [1.875, 1, -0.5, 2**-7, 1.25 * 2**-23]),
}  # fmt: skip


@KINDS
def test_fake_quantisation_leaves_what_rounding_by_hand_does(kind):
    weight, left = np.zeros((2, 32), np.float32), np.zeros((2, 32), np.float32)
    for array, row in zip((weight, left), BY_HAND[kind], strict=True):
        array[:, : len(row)] = row
        array[1] *= 4  # a channel of another scale
    np.testing.assert_array_equal(fake_quantize(weight, kind), left)


@KINDS
def test_a_step_moves_the_weight_down_the_slope_of_its_quantised_copy(kind):
    """The whole slope, as finite differences of the loss have it, wherever rounding is flat."""
    x, weight, target = some(5, T=3, O=2)
    copy, slope = fake_quantize(weight, kind).astype(np.float64), np.zeros((2, 32))
    for place in np.ndindex(slope.shape):
        losses = []
        for move in (1e-5, -1e-5):
            moved = copy.copy()
            moved[place] += move
            losses.append(soft_cross_entropy(x @ moved.T, target)[0])
        slope[place] = (losses[0] - losses[1]) / 2e-5
    new, loss = qat_step(x, weight, target, kind, 0.5)
    np.testing.assert_allclose(new, weight - 0.5 * slope, rtol=0, atol=3e-6)
    assert loss == pytest.approx(soft_cross_entropy(x @ copy.T, target)[0], rel=1e-6)


@given(seed=st.integers(0, 999), scale=st.sampled_from([1.0, 100.0, 1e4]))
def test_the_loss_has_the_gradient_of_finite_differences(seed, scale):
    rng = np.random.default_rng(seed)
    z, p = rng.standard_normal((2, 4)), rng.dirichlet(np.ones(4), 2) * rng.uniform(0, 2, (2, 1))  # a part, or more
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


def test_a_token_without_probability_may_have_a_logit_of_minus_infinity():
    z, p = np.array([[0.5, -np.inf, 2.0], [1.0, 3.0, -np.inf]]), np.array([[0.3, 0, 0.7], [0.6, 0.4, 0]])
    loss, slope = soft_cross_entropy(z, p)
    one, first = soft_cross_entropy(z[:1, [0, 2]], p[:1, [0, 2]])
    other, second = soft_cross_entropy(z[1:, :2], p[1:, :2])
    assert loss == pytest.approx((one + other) / 2)
    wanted = np.zeros((2, 3))
    wanted[0, [0, 2]], wanted[1, :2] = first[0] / 2, second[0] / 2
    np.testing.assert_allclose(slope, wanted)
    assert soft_cross_entropy(z, p[:, ::-1])[0] == np.inf


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (2, 4), (2, 3, 1)])
def test_a_target_of_another_shape_is_refused(shape):
    line = re.escape(f"soft_cross_entropy: target: wanted [T, V] as the logits, [2, 3], got {list(shape)}")
    with pytest.raises(BadInput, match=line):
        soft_cross_entropy(np.zeros((2, 3)), np.full(shape, 1 / 3))
    with pytest.raises(BadInput, match=r"\[T, V\] as the logits, \[3\], got \[3\]"):
        soft_cross_entropy(np.zeros(3), np.full(3, 1 / 3))


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
