"""Few runs are made from the prompt on, and the others where these do not settle it: then the report is that of all."""

import numpy as np
import pytest
from support.judged import as_dump, cached_passes, captured, dumped

import ref
from ref import compare
from ref.measure import pass_runs
from ref.mutants import tap_mutants

TAP = "text.layer.2.ffn.up"


def wrong(taps):
    value = np.array(taps[TAP])
    value[..., 3] += 1.0
    return {**taps, TAP: value}


def with_every_run(monkeypatch, dump):
    for name in ("FEW", "FEW_NARROW"):
        monkeypatch.setattr(pass_runs, name, tuple(range(6)))
    return compare(dump, loaded=ref.load("tiny"))


def same_where_it_is_wrong(few, every):
    """Check that rows that few runs do not settle are those of all, and that floors of the others are no larger."""
    unsettled = 0
    for a, b in zip(few["taps"], every["taps"], strict=True):
        assert a["verdict"] == b["verdict"]
        if (a["inherited_ratio"] or 0) > 2:
            unsettled += 1
            for key in ("inherited", "floor", "inherited_ratio", "local_floor"):
                np.testing.assert_equal(a[key], b[key], a["tap"])
        else:
            assert not (a["floor"] or 0) > (b["floor"] or 0)
    assert unsettled


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_far_off_is_measured_with_every_run(monkeypatch, dtype):
    dump = dumped(wrong(captured(dtype=dtype)), dtype)
    few = compare(dump, loaded=ref.load("tiny"))
    same_where_it_is_wrong(few, with_every_run(monkeypatch, dump))


def test_passes_that_continue_each_other_get_the_runs_of_those_before(monkeypatch):
    made = cached_passes([9, 4, 1])
    for number in (1, 2):
        made.taps[number].update(wrong(made.taps[number]))
    dump = as_dump(made, [list(taps) for taps in made.taps])
    few, every = compare(dump, loaded=ref.load("tiny")), with_every_run(monkeypatch, dump)
    assert every["verdict"] == few["verdict"] == "bug"
    by_place = {(row["pass"], row["tap"]): row for row in every["taps"]}
    for row in few["taps"]:
        if row["pass"] == 2 and (row["inherited_ratio"] or 0) > 2:
            assert row["floor"] == by_place[2, row["tap"]]["floor"]


@pytest.mark.parametrize("name", ["rope_interleaved", "gelu_erf", "norm_plus_one_twice"])
def test_names_and_proof_are_those_of_every_run(monkeypatch, name):
    dump = dumped(captured(tap_mutants()[name].rules))
    few, every = compare(dump, loaded=ref.load("tiny")), with_every_run(monkeypatch, dump)
    for key in ("verdict", "first", "diagnosis"):
        assert few[key] == every[key]


def test_what_matches_is_judged_without(monkeypatch):
    seen = []
    monkeypatch.setattr("ref.judge.in_turn.pass_through", lambda *_: seen.append(1))
    compare(dumped(captured()), loaded=ref.load("tiny"))
    assert not seen
