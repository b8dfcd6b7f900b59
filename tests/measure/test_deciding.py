"""Few runs decide the floor of most operations: verdict and error are those that all runs give."""

import numpy as np
import pytest
from support.judged import captured, dumped

import ref
from ref import compare
from ref.measure import measure_tap

PRODUCT = "text.layer.2.ffn.up"


def judged(taps):
    return compare(dumped(taps), loaded=ref.load("tiny"))


def rows_of(report):
    return {row["tap"]: row for row in report["taps"] if row["local_floor"] is not None}


def with_all_runs(monkeypatch, taps):
    monkeypatch.setattr(measure_tap, "deciding", lambda pass_runs, blank: [])
    return judged(taps)


def planted(taps, far):
    """Put one channel of a product so many of its own roundings off."""
    value = np.array(taps[PRODUCT], np.float32)
    value[..., 3] += np.float32(far) * np.spacing(np.abs(value[..., 3]))
    return {**taps, PRODUCT: value}


@pytest.mark.parametrize("far", [0, 1, 3, 10, 30, 1000, np.nan, np.inf])
def test_verdicts_are_those_of_all_runs(monkeypatch, far):
    taps = planted(captured(), far)
    few, every = judged(taps), with_all_runs(monkeypatch, taps)
    for key in ("verdict", "first", "diagnosis"):
        assert few[key] == every[key]
    for tap, row in rows_of(every).items():
        here = rows_of(few)[tap]
        np.testing.assert_equal((here["verdict"], here["local"]), (row["verdict"], row["local"]))
        assert not here["local_floor"] > row["local_floor"]  # of fewer runs the largest is never larger
        assert not here["local_ratio"] < row["local_ratio"]
        assert here["local_ratio"] <= 1 or here["local_ratio"] == row["local_ratio"] or np.isnan(here["local_ratio"])


def test_chains_decide_and_one_of_them_a_product(monkeypatch):
    counts, plain = {}, measure_tap.deciding
    for dtype in ("float32", "bfloat16"):
        seen = counts[dtype] = {}
        monkeypatch.setattr(
            measure_tap, "deciding", lambda runs, blank, seen=seen: seen.setdefault(blank.tap, plain(runs, blank))
        )
        compare(dumped(captured(dtype=dtype), dtype), loaded=ref.load("tiny"))
    assert (len(counts["float32"][PRODUCT]), len(counts["bfloat16"][PRODUCT])) == (1, 1)
    for tap, wide, narrow in (("attn.scores", 0, 2), ("attn.mix", 2, 2), ("attn.pre_norm", 0, 0), ("mid", 0, 2)):
        found = [len(counts[dtype][f"text.layer.2.{tap}"]) for dtype in ("float32", "bfloat16")]
        assert found == [wide, narrow], tap
    assert not counts["float32"]["text.logits"]


def test_what_is_wrong_is_measured_with_all_runs(monkeypatch):
    taps = planted(captured(), 1000)
    few, every = rows_of(judged(taps))[PRODUCT], rows_of(with_all_runs(monkeypatch, taps))[PRODUCT]
    assert few["verdict"] == "bug"
    assert few["distances"] == every["distances"]
