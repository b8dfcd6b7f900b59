"""Numbers inside a norm: epsilon and what is added to the gain."""

import numpy as np
import pytest
from support.caused import LOCAL, normed, only_cause, report_of, values_of

from ref.emulate.text_rules import LAYER

NORM = LAYER + "ffn.pre_norm"


def normed_with(**numbers):
    return {NORM: lambda at: normed(at["mid"], np.asarray(at.weights.pre_ffn_norm, np.float64), **numbers)}


@pytest.mark.parametrize(("epsilon", "words"), [(2e-4, "2e-4"), (7.7e-4, "")])
def test_an_epsilon(epsilon, words):
    cause = only_cause(report_of(normed_with(epsilon=epsilon), LOCAL))
    assert (cause["mutant"], cause["layers"]) == ("norm_epsilon", [LOCAL])
    assert values_of(cause)["epsilon"] == pytest.approx(epsilon, rel=1e-2)
    assert (cause["parameters"][0]["wanted"], cause["parameters"][0]["words"]) == (1e-6, words)


@pytest.mark.parametrize(("plus", "words"), [(0.5, "1/2"), (0.83, "")])
def test_what_is_added_to_the_gain(plus, words):
    cause = only_cause(report_of(normed_with(plus=plus), LOCAL))
    assert (cause["mutant"], cause["layers"]) == ("norm_gain_offset", [LOCAL])
    assert values_of(cause)["offset"] == pytest.approx(plus, rel=1e-5)
    assert cause["parameters"][0]["words"] == words
