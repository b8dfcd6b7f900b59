"""Quantisation-aware training, one step: rounded weights forward, their gradient straight through, a soft target."""

import numpy as np

from ref.errors import wanted
from ref.ops.blocks import decode
from ref.quant.encode import encode


def fake_quantize(weight: np.ndarray, kind: str) -> np.ndarray:
    """Return what a weight becomes when it is quantised and read back.

        w_q = decode(encode(w))

    Args:
        weight: [O, I] float32, finite.
        kind: a key of `ref.quant.encode.ENCODERS`.

    Returns:
        [O, I] float32.

    Raises: BadInput: see `encode`.
    Source: google-deepmind/gemma 3.3.0 `peft/_quantization.simulate_quantize`; Gemma 3 report, section 2.3.
    Differs: google-deepmind/gemma's SFP8 of small values; see `ref.quant.sfp8.sfp8_codes`.
    """
    return decode(encode(weight, kind))


def straight_through(upstream: np.ndarray) -> np.ndarray:
    """Return the gradient to a weight, given that to its quantised copy: the same, as if rounding were the identity.

        dL/dw = dL/dw_q

    Args:
        upstream: [O, I] float, dL/dw_q.

    Source: Bengio et al. 2013, arXiv:1308.3432; google-deepmind/gemma `_straight_through_estimator`.
    Differs: torch's fake_quantize gives 0 where a value was clipped; with a scale of the largest value none is.
    """
    return np.asarray(upstream)


def soft_cross_entropy(logits: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the loss on a full-precision model's probabilities, and its gradient to the logits.

        L = -(1 / T) sum_t sum_v p[t, v] log softmax(z[t])[v];    dL/dz[t] = (softmax(z[t]) sum_v p[t, v] - p[t]) / T

    Args:
        logits: z, [T, V] float, of the quantised model; -inf where a token is excluded, but not in the whole of a row.
        target: p, [T, V] float, probabilities of the full-precision one; a row may be a part of them, as when sampled.

    Returns:
        (L float64, dL/dz [T, V] float64), in nats. L less the target's entropy is the KL divergence.

    Rounding: float64 throughout; the largest logit is taken out first. A p of 0 counts nothing, whatever its logit.
    Raises: BadInput: shapes that are not both the same [T, V].
    Source: Gemma 3 report, section 2.3, "probabilities from the non-quantized checkpoint as targets"; Hinton et al.
        2015, arXiv:1503.02531, with temperature 1.
    """
    z, p = np.asarray(logits, np.float64), np.asarray(target, np.float64)
    if z.ndim != 2 or p.shape != z.shape:
        raise wanted("target", "soft_cross_entropy", f"[T, V] as the logits, {list(z.shape)}", list(p.shape))
    z = z - z.max(axis=-1, keepdims=True)
    log_q = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    loss = -np.multiply(p, log_q, out=np.zeros_like(p), where=p > 0).sum() / len(z)
    return float(loss), (np.exp(log_q) * p.sum(axis=-1, keepdims=True) - p) / len(z)


def qat_step(x: np.ndarray, weight: np.ndarray, target: np.ndarray, kind: str, rate: float) -> tuple[np.ndarray, float]:
    """Take one step of gradient descent on one linear layer whose output is the logits.

        w_q = fake_quantize(w);    z = x w_q^T;    w <- w - rate * (dL/dz)^T x

    Args:
        x: [T, I] float32, inputs.
        weight: [O, I] float32, the full-precision copy that is trained.
        target: [T, O] float, see `soft_cross_entropy`.
        kind: a key of `ref.quant.encode.ENCODERS`.
        rate: learning rate.

    Returns:
        (new weight [O, I] float32, loss before the step).

    Rounding: products in float32, the loss in float64.
    Raises: BadInput: see `encode` and `soft_cross_entropy`.
    Source: Gemma 3 report, section 2.3: about 5,000 such steps of the whole model.
    """
    loss, slope = soft_cross_entropy(x @ fake_quantize(weight, kind).T, target)
    gradient = straight_through(slope.astype(np.float32).T @ x)
    return weight - np.float32(rate) * gradient, loss
