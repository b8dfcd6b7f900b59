"""Wrong taps become causes: told once over layers and passes, apart where their numbers differ, the largest first."""

import numpy as np
import pytest
from support.caused import report_of, right, values_of

from ref.diagnosis.causes import causes_of
from ref.emulate.text_rules import LAYER
from ref.hypotheses.hypothesis import Hypothesis, Parameter, mutant_of

ACT = LAYER + "ffn.act"


def scaled(by_layer):
    return {ACT: lambda at: right(ACT)(at) * np.float32(by_layer.get(at.layer, 1))}


def test_layers_with_other_numbers_are_other_causes():
    report = report_of(scaled({1: 1.5, 2: 1.5, 4: 4.0, 6: 1.5}))
    found = {round(values_of(one)["scale"], 4): one["layers"] for one in report["causes"]}
    assert found == {1.5: [1, 2, 6], 4.0: [4]}
    assert {one["mutant"] for one in report["causes"]} == {"values_scaled"}
    assert report["proof"]["verdict"] == "explained"


def test_what_moves_the_logits_most_comes_first():
    report = report_of(scaled({1: 1.01}) | {"text.embed": lambda at: right("text.embed")(at) * np.float32(0.2)})
    assert [one["mutant"] for one in report["causes"]] == ["embedding_scaled", "values_scaled"]
    first, second = (one["moves"] for one in report["causes"])
    assert first > 10 * second > 0


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [((2.0, 0.01), (2.05, 0.01), True), ((2.0, 0.01), (2.1, 0.01), False), ((2.0, None), (2.0001, None), True)],
)
def test_numbers_agree_within_their_errors(one, other, agree):
    made = [Hypothesis(mutant_of("values_scaled", "", {}), (Parameter("scale", *pair),), 1) for pair in (one, other)]
    assert made[0].agrees(made[1]) == agree
    assert made[1].agrees(made[0]) == agree


def test_a_mistake_in_another_part_is_another_one():
    one = Hypothesis(mutant_of("rope_missing", "", {}), (), 1, None, "heads 2")
    assert one.agrees(one)
    assert not one.agrees(one._replace(where="heads 3"))
    assert not one.agrees(one._replace(mutant=mutant_of("rope_backwards", "", {})))


def test_no_wrong_taps_have_no_causes():
    assert causes_of([], {}) == []
