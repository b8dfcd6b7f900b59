"""Workers: processes of this machine, Dask's and any executor give the same report, also where one of them dies."""

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import by_jobs
from support.dumps_on_disk import row, written
from support.judged import captured

import ref
from ref.errors import BadInput
from ref.judge import doers
from ref.judge.choice import sampled
from ref.judge.compare import compare_with_profiles
from ref.judge.spread import Spread
from ref.mutants import tap_mutants


def plain(report):
    """Return a report as its bytes are, without times."""
    rows = [{key: value for key, value in one.items() if key != "seconds"} for one in report["taps"]]
    return json.dumps({key: value for key, value in report.items() if key != "seconds"} | {"taps": rows})


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    taps = captured(tap_mutants()["gelu_erf"].rules, only=4)
    ids = [20 + i % 70 for i in range(19)]
    one = row(19, 0) | {"ids": ids, "positions": list(range(19))}
    config = ref.load("tiny").params.config._asdict()
    return written(tmp_path_factory.mktemp("workers") / "dump", (one, taps), config=config)


@pytest.fixture(scope="module")
def alone(dump):
    report, profiles = compare_with_profiles(dump, "tiny")
    assert report["first"]["tap"] == "text.layer.4.ffn.act"
    return plain(report), profiles


def test_processes_say_what_one_process_says(dump, alone):
    for count in (2, 4):
        report, profiles = compare_with_profiles(dump, "tiny", spread=Spread(workers=count))
        assert plain(report) == alone[0]
        np.testing.assert_equal(profiles, alone[1])


def test_a_worker_that_is_killed_in_the_middle_costs_nothing(dump, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(doers, "judge_shard", partial(by_jobs.dies_once, flag=str(tmp_path / "died")))
    report, _ = compare_with_profiles(dump, "tiny", spread=Spread(workers=2))
    assert (tmp_path / "died").exists()
    assert plain(report) == alone[0]


def test_workers_that_die_each_time_are_given_up_in_one_line(dump, monkeypatch):
    monkeypatch.setattr(doers, "judge_shard", by_jobs.always_dies)
    with pytest.raises(BadInput, match=r"workers: embed: wanted a worker that finishes it .*, got 3 that died"):
        compare_with_profiles(dump, "tiny", spread=Spread(workers=2))


def test_any_executor_will_do(dump, alone):
    with ThreadPoolExecutor(2) as executor:
        report, _ = compare_with_profiles(dump, "tiny", spread=Spread(executor=executor))
    assert plain(report) == alone[0]


def test_what_is_finished_is_not_done_again(dump, alone, tmp_path, monkeypatch):
    spread = Spread(resume=tmp_path / "kept")
    first, _ = compare_with_profiles(dump, "tiny", spread=spread)
    done = []
    monkeypatch.setattr("ref.judge.in_turn.judge_stage", lambda *_, **__: done.append(1))
    again, _ = compare_with_profiles(dump, "tiny", spread=spread)
    assert plain(first) == plain(again) == alone[0]
    assert not done


def test_a_broken_file_of_what_is_finished_is_made_again(dump, alone, tmp_path):
    spread = Spread(resume=tmp_path / "kept")
    compare_with_profiles(dump, "tiny", spread=spread)
    for file in sorted((tmp_path / "kept").iterdir())[::3]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert plain(compare_with_profiles(dump, "tiny", spread=spread)[0]) == alone[0]
    assert not list((tmp_path / "kept").glob("*.part"))


def test_another_dump_of_the_same_name_is_another_question(dump, tmp_path):
    from ref.judge.ask import ask
    from ref.judge.jobs import _case_of, fingerprint_of, names_of

    names = names_of(dump, "tiny", None, None, None, None, None, None, None)
    opened = ask(dump, "tiny")
    right = fingerprint_of(opened.opened, opened.loaded)
    assert _case_of(names._replace(fingerprint=right))[0].stages
    with pytest.raises(BadInput, match=r"dump or weights: wanted the same content as where the judgement began"):
        _case_of(names._replace(fingerprint="0" * 64))


@pytest.mark.parametrize(
    ("spread", "message"),
    [
        (Spread(workers=0), "--workers: wanted 1 to 1024, got 0"),
        (Spread(workers=2, scheduler="tcp://h:1"), "--workers: wanted none beside --scheduler"),
        (Spread(scheduler="nothing of the kind"), "--scheduler: wanted the address of a Dask scheduler that answers"),
    ],
)
def test_what_contradicts_itself_is_refused(dump, spread, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        compare_with_profiles(dump, "tiny", spread=spread)


def test_a_dump_in_memory_is_not_for_workers():
    with pytest.raises(BadInput, match=r"wanted dump and weights by name, .* got a dump in memory"):
        compare_with_profiles(by_jobs_dump(), "tiny", spread=Spread(workers=2))


def by_jobs_dump():
    from support.judged import dumped

    return dumped(captured())


def test_more_workers_than_memory_allows_are_refused_before_they_start(dump, monkeypatch):
    monkeypatch.setattr(doers.ProcessPoolExecutor, "submit", None)
    with pytest.raises(BadInput, match=r"--workers: wanted at most 1, for which the 0.60 GB that are allowed by"):
        compare_with_profiles(dump, "tiny", memory="600MB", spread=Spread(workers=2))


@pytest.fixture(scope="module")
def cluster():
    """A LocalCluster of processes."""
    distributed = pytest.importorskip("distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(processes=True, **how) as local:
        yield local


def test_workers_of_dask_say_what_one_process_says(cluster, dump, alone):
    report, profiles = compare_with_profiles(dump, "tiny", spread=Spread(scheduler=cluster.scheduler_address))
    assert plain(report) == alone[0]
    np.testing.assert_equal(profiles, alone[1])


def test_a_worker_of_dask_that_is_killed_costs_nothing(cluster, dump, alone, tmp_path, monkeypatch):
    from ref.judge import on_dask

    flag = str(tmp_path / "died")
    monkeypatch.setattr(on_dask, "judge_on_worker", partial(by_jobs.dies_once, flag=flag))
    report, _ = compare_with_profiles(dump, "tiny", spread=Spread(scheduler=cluster.scheduler_address))
    assert plain(report) == alone[0]
    assert Path(flag).exists()


def test_workers_of_dask_without_weights_are_told_in_one_line(cluster, dump, monkeypatch):
    from ref.judge import on_dask

    monkeypatch.setattr(on_dask, "judge_on_worker", by_jobs.has_no_weights)
    with pytest.raises(BadInput, match=r"--weights: .* no such file \(on worker tcp://.*; 2 cannot do it\)"):
        compare_with_profiles(dump, "tiny", spread=Spread(scheduler=cluster.scheduler_address))


def test_part_of_a_dump_is_said_to_be_part_of_it(dump):
    report, _ = compare_with_profiles(dump, "tiny", layers="0-2")
    assert report["verdict"] == "match"
    assert {one["layer"] for one in report["taps"]} <= {0, 1, 2, 3}
    assert report["left_out"] == ["95 of the 164 taps of the dump were not looked at: only layers 0-2"]
    report, _ = compare_with_profiles(dump, "tiny", layers="3, 5-6")
    assert report["left_out"][1].startswith("what has gathered from the prompt on was not measured from layer 3 on")
    assert all(one["inherited"] is None for one in report["taps"] if one["dtype"] == "float32")
    assert all(one["local"] is not None for one in report["taps"])
    report, _ = compare_with_profiles(dump, "tiny", taps=["text.layer.*.ffn.act"])
    assert [one["tap"] for one in report["taps"]] == [f"text.layer.{i}.ffn.act" for i in range(7)]
    assert report["verdict"] == "bug"


def test_taps_that_are_looked_at_have_the_figures_that_they_have_in_all(dump):
    whole = {one["tap"]: one for one in compare_with_profiles(dump, "tiny")[0]["taps"]}
    for how in ({"layers": "embed,0-3"}, {"taps": ["text.layer.?.attn.*"]}):
        for one in compare_with_profiles(dump, "tiny", **how)[0]["taps"]:
            for key in ("local", "local_floor", "local_ratio", "inherited", "floor", "inherited_ratio", "metrics"):
                assert one[key] == whole[one["tap"]][key]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"layers": "2,9"}, "the model has layers 0 to 6, got 9"),
        ({"layers": "3-1"}, "got 3-1"),
        ({"layers": ""}, "got nothing"),
        ({"layers": "1;2"}, "wanted layers and ranges such as 3,9-11, and vision, embed, final, logits"),
        ({"taps": ["text.layer.9.*"]}, "wanted a pattern of taps that the dump has"),
        ({"sample": 1}, "wanted 2 layers or more, got 1"),
        ({"sample": 3, "layers": "1"}, "wanted either --layers or --sample, got both"),
    ],
)
def test_a_part_that_is_none_is_refused(dump, how, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        compare_with_profiles(dump, "tiny", **how)


def test_a_sample_has_the_ends_and_both_kinds():
    for size in ("1b", "4b", "27b"):
        config = ref.config.SIZES[size]
        for count in (2, 3, 5, 12, 500):
            layers = sampled(count, config)
            assert {0, config.layers - 1} <= set(layers)
            assert count < 3 or {config.is_global(i) for i in layers} == {True, False}
            assert len(layers) <= count
