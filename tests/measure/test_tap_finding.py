"""One record per tap, which nobody changes: a verdict makes a new one, and JSON is made in one place."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from ref.measure.measure_tap import conclude
from ref.measure.tap_finding import FirstNonfinite, TapFinding

ONE = TapFinding("text.layer.3.attn.q", 1, "float32", local=1e-6, local_floor=1e-7, local_ratio=10.0)
FINITE, INFINITE = np.ones(3), np.array([1.0, np.inf])


def test_what_the_name_says_is_not_said_twice():
    assert (ONE.group, ONE.layer, ONE.exact, ONE.place) == ("text.layer.*.attn.q", 3, False, (1, "text.layer.3.attn.q"))
    assert TapFinding("text.layer.0.in", 0, "float32").exact
    assert TapFinding("text.embed", 0, "float32").layer is None


def test_nobody_changes_a_finding():
    with pytest.raises(FrozenInstanceError):
        ONE.verdict = "bug"  # type: ignore[misc]
    assert conclude(ONE, FINITE) is not ONE
    assert ONE.verdict == "match"


def test_the_verdict_goes_by_finite_inputs_then_finite_values_then_the_ratio():
    cases = [
        (ONE, FINITE, "bug", ""),
        (TapFinding("text.embed", 0, "float32", local_ratio=2.0), FINITE, "match", ""),
        (TapFinding("text.embed", 0, "float32"), FINITE, "match", ""),
        (ONE, INFINITE, "undetermined", "its inputs are not finite"),
    ]
    nan = TapFinding("text.embed", 0, "float32", local_ratio=0.5, nonfinite=FirstNonfinite(2, 7, 1, 0.5))
    cases += [
        (nan, FINITE, "bug", "not finite at token 7"),
        (nan, INFINITE, "undetermined", "its inputs are not finite"),
    ]
    for finding, truth, verdict, why in cases:
        found = conclude(finding, truth)
        assert (found.verdict, found.why) == (verdict, why)


def test_json_has_the_keys_that_programs_rely_on():
    row = ONE.as_json()
    assert (row["tap"], row["pass"], row["layer"], row["local_ratio"]) == ("text.layer.3.attn.q", 1, 3, 10.0)
    blank = {"inherited": None, "floor": None, "inherited_ratio": None, "nonfinite": None, "overflow": None}
    assert row.items() >= {**blank, "span": [], "metrics": {}, "verdict": "match", "why": "", "exact": False}.items()
    assert {"seconds", "distances"}.isdisjoint(row)
