"""Logits that match in some columns and in sums of all are not compared one by one: the verdict is the same."""

import numpy as np
import pytest
from support.judged import captured, dumped, replaced

import ref
from ref import compare
from ref.measure import distributions
from ref.measure import measure_logits as logits


@pytest.fixture(autouse=True)
def sampled(monkeypatch):
    """Let the vocabulary of 97 be large: 16 columns are sampled, tiles are of 40."""
    monkeypatch.setattr(logits, "COLUMNS", 16)
    monkeypatch.setattr(logits, "TILE", 40)


@pytest.fixture
def far(monkeypatch):
    """Let next to every logit behind the first quarter be too small to decide anything."""
    monkeypatch.setattr(logits, "TILE", 8)
    monkeypatch.setattr(distributions, "FAR", 0.5)


def row_of(arrays, dtype):
    report = compare(dumped(arrays, dtype), loaded=ref.load("tiny"))
    return next(row for row in report["taps"] if row["tap"] == "text.logits")


def one_column(far):
    def change(x):
        x = x.copy()
        x[0, 3, 50] += far * np.abs(x).max()
        return x

    return change


def one_row(far):
    def change(x):
        x = x.copy()
        x[0, 5] *= 1 + far
        return x

    return change


def two_exchanged(_far):
    def change(x):
        x = x.copy()
        x[..., [41, 42]] = x[..., [42, 41]]
        return x

    return change


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("far", [0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, np.nan, np.inf])
@pytest.mark.parametrize("plant", [one_column, one_row, two_exchanged])
def test_verdicts_are_those_of_columns_one_by_one(monkeypatch, dtype, far, plant):
    arrays = replaced(captured(dtype=dtype), "text.logits", plant(far))
    row = row_of(arrays, dtype)
    monkeypatch.setattr(logits, "CLEAR", -1.0)
    every = row_of(arrays, dtype)
    assert every["metrics"]["columns"] == 97
    for key in ("verdict", "nonfinite", "local_floor", "inherited_ratio"):
        np.testing.assert_equal(row[key], every[key])
    if row["verdict"] == "bug":
        np.testing.assert_equal(row["local_ratio"], every["local_ratio"])
        np.testing.assert_equal(row["metrics"], every["metrics"])


def test_it_says_how_many_columns_its_figures_are_of():
    row = row_of(captured(), "float32")
    assert (row["verdict"], row["metrics"]["columns"]) == ("match", 16)
    assert row["metrics"]["worst_channel"] in logits.some_columns(97)
    assert {"kl", "top1", "top5"} <= set(row["metrics"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_distributions_of_what_is_wrong_are_of_all_columns(monkeypatch, far, dtype):
    arrays = replaced(captured(dtype=dtype), "text.logits", two_exchanged(0))
    row = row_of(arrays, dtype)
    monkeypatch.setattr(logits, "COLUMNS", 97)
    every = row_of(arrays, dtype)
    assert row["verdict"] == every["verdict"] == "bug"
    for key in ("kl", "top1", "top5"):
        assert row["metrics"][key] == every["metrics"][key]
