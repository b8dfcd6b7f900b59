"""The truth of narrow formats: float64 but for its products, which are float32 and nowhere overflow."""

import numpy as np
import pytest
from support.judged import captured, dumped

import ref
from ref.emulate.arithmetic import TRUTH
from ref.emulate.narrow_truth import NARROW_TRUTH
from ref.judge.case import Question, _runs_of_passes

T, D = 40, 96


def drawn(*shape):
    return np.random.default_rng(shape).standard_normal(shape)


@pytest.mark.parametrize("tokens", [3, T])
def test_products_err_by_float32(tokens):
    x, w, bias = drawn(1, tokens, D), drawn(24, D), drawn(24)
    q, k = drawn(1, tokens, 4, 16), drawn(1, tokens, 2, 16)
    probs = np.abs(drawn(1, 4, tokens, tokens))
    seen = np.tri(tokens, dtype=bool)[None]
    for name, arguments in {
        "linear": (x, w, bias),
        "row_parallel": (x, w),
        "scores": (q, k, 0.25),
        "mix": (probs, k),
        "attend": (q, k, k, seen, 0.25),
    }.items():
        wide, narrow = (getattr(one, name)(*arguments) for one in (TRUTH, NARROW_TRUTH))
        assert narrow.dtype == wide.dtype == np.float64
        np.testing.assert_allclose(narrow, wide, atol=2e-6 * np.abs(wide).max())


def test_what_float32_cannot_hold_is_float64():
    x, w = drawn(1, T, D), drawn(24, D)
    for far in (1e30, 1e60):
        np.testing.assert_array_equal(NARROW_TRUTH.linear(x * far, w * far), TRUTH.linear(x * far, w * far))
    q = drawn(1, T, 4, 16) * 1e25
    np.testing.assert_array_equal(NARROW_TRUTH.scores(q, q, 0.25), TRUTH.scores(q, q, 0.25))


@pytest.mark.parametrize(("dtype", "family", "narrow"), [
    ("bfloat16", "bfloat16", True),
    ("float16", "float16", True),
    ("float32", "float32", False),
    ("bfloat16", "float32", False),
    ("float32", "bfloat16", False),
])  # fmt: skip
def test_it_is_for_dumps_all_of_whose_values_are_narrow(dtype, family, narrow):
    dump = dumped(captured(dtype=dtype, tokens=4), dtype)
    (runs,) = _runs_of_passes(Question(dump, ref.load("tiny"), "file", "current"), family)
    assert (runs.own.arithmetic is NARROW_TRUTH) is (runs.local.arithmetic is NARROW_TRUTH) is narrow
