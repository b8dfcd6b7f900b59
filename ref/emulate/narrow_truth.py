"""The truth beside which values of 8 or 11 bits are judged: its products are float32, all between them is float64.

Valid runs of such formats sum in float32, too, and then round to 2^-9 or 2^-12 of a value: a product that errs by their
sums alone is the truth to them. Where float32 overflows the product is float64.
"""

from collections.abc import Callable

import numpy as np

from ref.emulate.arithmetic import TRUTH
from ref.ops import KERNEL
from ref.ops.linear import Weight, widen
from ref.ops.wide_attention import MANY, wide_mix, wide_scores


def _checked(y: np.ndarray, otherwise: Callable[[], np.ndarray]) -> np.ndarray:
    """Return a float32 product as float64, or what is computed otherwise if it is not finite."""
    return y.astype(np.float64) if np.isfinite(y).all() else otherwise()


def _float32(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return x.astype(np.float32, copy=False)


def _linear(x: np.ndarray, weight: Weight, bias: np.ndarray | None = None) -> np.ndarray:
    narrow = _float32(weight) if isinstance(weight, np.ndarray) and weight.dtype == np.float64 else weight
    y = _checked(KERNEL.linear(_float32(x), narrow), lambda: KERNEL.linear(x, weight))
    return y if bias is None else y + widen(bias)


def _scores(q: np.ndarray, k: np.ndarray, scale: float) -> np.ndarray:
    if q.shape[1] < MANY:
        return KERNEL.scores(q, k, scale)
    return _checked(wide_scores(_float32(q), _float32(k), scale), lambda: KERNEL.scores(q, k, scale))


def _mix(probs: np.ndarray, v: np.ndarray) -> np.ndarray:
    if probs.shape[2] < MANY:
        return KERNEL.mix(probs, v)
    return _checked(wide_mix(_float32(probs), _float32(v)), lambda: KERNEL.mix(probs, v))


def _attend(q, k, v, seen, scale):
    return _mix(KERNEL.softmax(_scores(q, k, scale), seen), v)


NARROW_TRUTH = TRUTH._replace(
    linear=_linear, row_parallel=_linear, convolve=_linear, scores=_scores, mix=_mix, attend=_attend
)
