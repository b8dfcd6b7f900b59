"""Dumps of whatever taps their owner could get: a clean one matches, and a corrupted tap is found, whatever is missing.

`tests/bench/sparse.py` runs the same for as many seeds as one likes.
"""

import numpy as np
import pytest
from support.judged import as_dump
from support.sparse import corrupted, drawn

import ref
from ref import compare
from ref.dump.align import Stored
from ref.dump.opened import Dump, DumpPass
from ref.emulate.arithmetic import emulate
from ref.emulate.graph import Run
from ref.emulate.one_pass import Unknown, pass_of
from ref.emulate.policy import members_of
from ref.emulate.stages import Stage, prepare_stage
from ref.golden_files.sampled import made_pixels
from ref.judge.case import Case, Question
from ref.judge.in_turn import InTurn
from ref.measure.pass_runs import PassRuns


@pytest.mark.parametrize("seed", range(40))
def test_any_subset_of_a_clean_run_matches(seed):
    passes, kept, _ = drawn(seed)
    report = compare(as_dump(passes, kept), loaded=ref.load("tiny"))
    assert report["verdict"] == "match", [row for row in report["taps"] if row["verdict"] != "match"][:1]
    assert len(report["taps"]) == sum(map(len, kept))


@pytest.mark.parametrize("seed", range(20))
def test_a_corruption_of_a_kept_tap_is_found(seed):
    passes, kept, rng = drawn(seed)
    wrong, number, tap = corrupted(passes, kept, rng)
    report = compare(as_dump(wrong, kept), loaded=ref.load("tiny"))
    assert report["verdict"] == "bug"
    found = {(row["pass"], row["tap"]) for row in report["taps"] if row["verdict"] == "bug"}
    assert (number, tap) in found


def test_no_value_is_made_with_the_weights_of_another_stage():
    loaded = ref.load("tiny")
    one_pass = pass_of(loaded, [5, 6, 7])
    run = Run(one_pass, emulate(*members_of("float32")[0]))
    run.enter(Stage("layer", 1), prepare_stage(loaded, Stage("layer", 1), "file", np.float32))
    with pytest.raises(Unknown, match=r"text\.layer\.0 are not at hand: text\.layer\.1 are"):
        run.value("text.layer.0.attn.q")


def test_keys_of_an_earlier_pass_are_dropped_only_after_the_later_one_has_read_them():
    loaded = ref.load("tiny")
    members = [emulate(*members_of("float32")[0])]
    first = PassRuns(0, pass_of(loaded, [5, 6]), {}, members, None)
    later = PassRuns(1, pass_of(loaded, [7], cached=2, before=first.one_pass), {}, members, first)
    for stage in (Stage("embed"), Stage("layer", 0)):
        weights = prepare_stage(loaded, stage, "file", np.float64)
        for pass_runs in (first, later):
            pass_runs.enter(stage, weights, prepare_stage(loaded, stage, "file", np.float32))
        for pass_runs in (first, later):
            pass_runs.finish(stage)
        if stage.layer is None:
            for pass_runs in (first, later):
                pass_runs.forget(["text.layer.0.in"])
    assert later.own.value("text.layer.0.out").shape[1] == 1


def test_a_pass_without_images_behind_one_with_images_has_no_part_in_the_tower():
    loaded = ref.load("tiny")
    pixels, soft = made_pixels(1, 40), loaded.vision.config.soft_tokens
    pool = np.zeros((1, soft, loaded.vision.config.width), np.float32)
    shown = {"vision.pool": Stored("vision.pool", "float32", pool.shape, lambda: pool)}
    ids = np.array([5, *[97] * soft, 9])
    first = DumpPass(0, ids, np.arange(len(ids)), 0, [[1, 1 + soft]], 0, pixels, shown)
    later = DumpPass(1, np.array([11, 12]), len(ids) + np.arange(2), len(ids), [[1, 1 + soft]], 0, None, {})
    dump = Dump("arrays", {}, {}, {}, {}, [first, later], [])
    case = Case(Question(dump, loaded, "file", "current"), "float32")
    source = InTurn(case)
    rows = [row for stage in case.stages for row in source.judged(stage, ()).rows]
    assert [row.finding.tap for row in rows] == ["vision.pool"]
