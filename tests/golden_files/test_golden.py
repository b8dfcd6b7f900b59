"""The reference matches the goldens: each case, both ops, tapped and not; and every tap has a witness."""

import json
from functools import cache

import numpy as np
import pytest
from support.tiny import BOTH, TINY, params, vision

from ref.golden_files.against_golden import LIMIT, run_golden
from ref.golden_files.files import find_cases, golden_root, read_case
from ref.golden_files.verify_all import AGREEMENT
from ref.model.cache import empty_cache
from ref.model.taps import Recorder, tap_group, tap_names, tap_row
from ref.model.text import How, forward
from ref.weights.resolve import load

ROOT = golden_root()
TINY_CASES = [(toy, folder.name) for toy in ("tiny", "tiny-long") for folder in find_cases(ROOT, toy)]
REAL_CASES = [folder.name for folder in find_cases(ROOT, "270m")]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TAPPED = pytest.mark.parametrize("tapped", [True, False], ids=["tapped", "untapped"])
# Our ring's bookkeeping: no other implementation keeps it. Checked by itself below.
UNWITNESSED = {"text.layer.*.cache.positions"}


@cache
def case_of(weights, name):
    return read_case(next(folder for folder in find_cases(ROOT, weights) if folder.name == name))


def assert_matches(weights, case, ops, dtype, tapped, vision=None):
    findings = run_golden(weights, case, How(ops=ops, dtype=dtype), tapped, vision)
    worst = max(findings, key=lambda one: one.ratio)
    assert {one.verdict for one in findings} == {"match"}, worst
    assert worst.ratio <= LIMIT
    if dtype == np.float64:
        assert max(one.error for one in findings if one.floor) <= AGREEMENT
    kept = [one for one in case.passes if one.rows]
    expected = sum(len(one.rows) if tapped else 1 for one in kept) + 2 * len(
        kept
    )  # and the largest logits and an arg-max each
    assert len(findings) == expected


@DTYPES
@TAPPED
@pytest.mark.parametrize("ops", BOTH)
@pytest.mark.parametrize(("toy", "name"), TINY_CASES)
def test_tiny_matches(toy, name, ops, tapped, dtype):
    assert_matches(params(), case_of(toy, name), BOTH[ops], dtype, tapped, vision(toy))


@pytest.fixture(scope="module")
def real():
    return load("270m").params


@pytest.mark.weights
@TAPPED
@pytest.mark.parametrize("name", ["short", "chat", "scripts"])
def test_270m_matches(real, name, tapped):
    assert_matches(real, case_of("270m", name), BOTH["kernel"], np.float32, tapped)


@pytest.mark.weights
@pytest.mark.parametrize(("name", "dtype"), [("short", np.float64), ("cached", np.float32), ("long", np.float32)])
def test_270m_matches_in_float64_beyond_the_window_and_round_the_ring(real, name, dtype):
    assert_matches(real, case_of("270m", name), BOTH["kernel"], dtype, tapped=name != "long")


def test_there_are_cases_of_both_weights():
    tiny = ["cached", "images", "images-cached", "packed", "padded"]
    assert [*(("tiny", name) for name in tiny), *(("tiny-long", name) for name in tiny[1:3])] == TINY_CASES
    assert REAL_CASES == ["cached", "chat", "long", "scripts", "short"]


@pytest.mark.parametrize("weights", ["tiny", "tiny-long", "270m"])
def test_every_tap_has_a_witness(weights):
    cases = [case_of(weights, folder.name) for folder in find_cases(ROOT, weights)]
    witnessed = {tap for case in cases for one in case.passes for tap in one.rows}
    layers, vision_layers = (18, 0) if weights == "270m" else (7, 2)
    registered = set(tap_names(layers, cached=True, vision_layers=vision_layers))
    missing = registered - witnessed
    assert {tap_group(tap) for tap in missing} <= UNWITNESSED
    assert not witnessed - registered


def test_positions_in_the_ring_are_the_newest_ones():
    case, cache_of = case_of("tiny", "cached"), empty_cache(TINY, np.zeros(1), 40, np.float32)
    for one in case.passes:
        taps = Recorder("*.cache.positions")
        _, cache_of = forward(params(), one.ids, How(taps=taps), cache_of)
        total = one.cached + one.ids.shape[1]
        for layer in range(TINY.layers):
            slots = min(TINY.window_of(layer) or total, total)
            got = taps.values[f"text.layer.{layer}.cache.positions"]
            np.testing.assert_array_equal(got, [range(total - slots, total)])


def test_floors_are_of_at_least_six_runs_and_truth_is_in_float64():
    for folder in [folder for name in ("tiny", "tiny-long", "270m") for folder in find_cases(ROOT, name)]:
        whole = json.loads((folder / "case.json").read_text())
        assert whole["float32_runs"] >= 6
        assert whole["source"]["name"] == "transformers"
        for one in case_of(folder.relative_to(ROOT).parts[1], folder.name).passes:
            for tap, row in one.rows.items():
                assert (row["kept"] == "exact") == tap_row(tap).integers, tap
                assert one.truth[tap].dtype == (np.int64 if row["kept"] == "exact" else np.float64), tap
                assert row["kept"] == "exact" or 0 <= row["floor"] < 1e-4, tap
