"""A final norm in another basis is no bug where the head undoes it, and undetermined where there are no logits."""

import numpy as np
import pytest
from support.caused import normed, product, rounded
from support.judged import captured, dumped

import ref
from ref import compare
from ref.measure import measure_logits

ORDER = np.random.default_rng(1).permutation(36)


def folded(cancels=True):
    """The final norm's gain is folded into a head of the port's own, or forgotten there."""

    def head(at):
        table = at.one_pass.table.take_rows(slice(None)).astype(np.float64)
        gain = np.asarray(ref.load("tiny").params.final_norm, np.float64)
        return product(at["text.final_norm"], table * (1 + gain) if cancels else table)

    return {"text.final_norm": lambda at: normed(at["text.layer.6.out"], 0.0), "text.logits": head}


def folded_in_bfloat16():
    """The same of a port in bfloat16: the head is rounded again after the gain was folded into it."""

    def head(at):
        table = at.one_pass.table.take_rows(slice(None))
        gain = rounded(np.asarray(ref.load("tiny").params.final_norm))
        return rounded(product(at["text.final_norm"], rounded(table * (1 + gain))))

    return {"text.final_norm": lambda at: rounded(normed(at["text.layer.6.out"], 0.0)), "text.logits": head}


def permuted():
    """The channels of the final norm and the columns of the head stand in another order."""

    def norm(at):
        return normed(at["text.layer.6.out"], np.asarray(at.weights.final_norm))[..., ORDER]

    def head(at):
        return product(at["text.final_norm"], at.one_pass.table.take_rows(slice(None))[:, ORDER])

    return {"text.final_norm": norm, "text.logits": head}


@pytest.fixture(params=["whole", "narrowed"])
def _vocabulary(request, monkeypatch):
    """Measure all columns at once, and, as of a large vocabulary, some of them."""
    if request.param == "narrowed":
        monkeypatch.setattr(measure_logits, "COLUMNS", 40)
        monkeypatch.setattr(measure_logits, "TILE", 32)


def judged(rules, left_out=(), dtype="float32"):
    """Judge a dump of `tiny` without some taps."""
    taps = captured(rules, dtype)
    return compare(dumped({tap: x for tap, x in taps.items() if tap not in left_out}, dtype), loaded=ref.load("tiny"))


@pytest.mark.usefixtures("_vocabulary")
@pytest.mark.parametrize(
    ("rules", "dtype", "what"),
    [
        (folded, "float32", "Each channel has a factor of its own"),
        (folded_in_bfloat16, "bfloat16", "Each channel has a factor of its own"),
        (permuted, "float32", "Channels stand in another order"),
    ],
)
def test_what_the_head_undoes_is_no_bug(rules, dtype, what):
    report = judged(rules(), dtype=dtype)
    assert report["verdict"].startswith("match")
    assert (report["causes"], report["first"]) == ([], None)
    (base,) = report["bases"]
    assert base["what"].startswith(what)
    assert (base["layers"], base["taps"], base["cancels_at"]) == ([], ["text.final_norm"], ["text.logits"])


@pytest.mark.usefixtures("_vocabulary")
def test_a_gain_that_nobody_applies_is_a_bug():
    report = judged(folded(cancels=False))
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == "text.final_norm"
    assert report["bases"] == []


@pytest.mark.parametrize("rules", [folded, permuted])
def test_without_logits_it_stays_undetermined(rules):
    report = judged(rules(), left_out=("text.logits",))
    assert report["verdict"] == "undetermined"
    assert report["causes"] == []
    (row,) = [one for one in report["taps"] if one["tap"] == "text.final_norm"]
    assert "No later tap of the dump tells whether it cancels" in row["why"]


@pytest.mark.usefixtures("_vocabulary")
def test_scales_folded_into_the_final_gain_before_one_is_added_are_a_bug():
    scales = np.exp(0.4 * np.random.default_rng(4).normal(size=36))
    gain = np.asarray(ref.load("tiny").params.final_norm, np.float64)

    def head(at):
        return product(at["text.final_norm"], at.one_pass.table.take_rows(slice(None)) * scales)

    report = judged({"text.final_norm": lambda at: normed(at["text.layer.6.out"], gain / scales), "text.logits": head})
    assert report["verdict"] == "bug"
    assert report["first"]["tap"] == "text.final_norm"
    assert [one["mutant"] for one in report["causes"]] == ["norm_gain_scaled_before_one"]
