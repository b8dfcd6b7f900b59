"""The writers of dumps in Python, C and JavaScript: what they write is read back, judged, and a mistake in it named."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.recorded import WRITERS, Value, port

import ref
from ref.dump.open import open_dump
from ref.errors import BadInput
from ref.record import Recorder

EACH = pytest.mark.parametrize("write", WRITERS)
CONFIG = ref.load("tiny").params.config


def named(report):
    return [one["mutant"] for one in report["diagnosis"] if one["verdict"] == "named"]


@EACH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_port_matches_and_names_its_weights_itself(tmp_path, write, dtype):
    passes = port(dtype=dtype)
    write(tmp_path / "dump", passes)
    report = ref.compare(tmp_path / "dump")
    assert report["verdict"] == "match", report["first"]
    assert report["compared"]["taps"] == sum(len(values) for _, values in passes)
    assert report["unaligned"] == []
    assert report["policy"]["compute_dtype"] == dtype


@EACH
def test_a_mistake_is_named(tmp_path, write):
    write(tmp_path / "dump", port("rope_bases_swapped"))
    report = ref.compare(tmp_path / "dump")
    assert report["verdict"] == "bug"
    assert named(report) == ["rope_bases_swapped"]


@EACH
def test_each_value_comes_back_in_the_axes_of_its_tap(tmp_path, write):
    passes = port()
    write(tmp_path / "dump", passes)
    opened = open_dump(tmp_path / "dump", config=CONFIG)
    assert [(one.ids.tolist(), one.cached) for one in opened.passes] == [
        (ids, sum(len(before) for before, _ in passes[:number])) for number, (ids, _) in enumerate(passes)
    ]
    by_tap = [{value.name: value.array for value in values} for _, values in passes]
    for one, given in zip(opened.passes, by_tap, strict=True):
        assert one.positions.tolist() == list(range(one.cached, one.cached + len(one.ids)))
        assert set(one.tensors) == set(given)
        np.testing.assert_array_equal(one.tensors["text.logits"].load(), given["text.logits"])
        queries = one.tensors["text.layer.3.attn.q"].load()
        np.testing.assert_array_equal(queries.reshape(given["text.layer.3.attn.q"].shape), given["text.layer.3.attn.q"])
        keys = one.tensors["text.layer.3.attn.k"].load()
        np.testing.assert_array_equal(keys[0].swapaxes(0, 1), given["text.layer.3.attn.k"])


KINDS = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "uint8", "bool"]


@EACH
def test_every_format_is_written_as_the_library_of_the_files_reads_it(tmp_path, write):
    values = [Value(kind, np.arange(6).reshape(2, 3).astype(kind), "T D") for kind in KINDS]
    values += [Value("empty", np.zeros((2, 0), np.float32), "T D")]
    write(tmp_path / "dump", [([5, 6], values)])
    content = json.loads((tmp_path / "dump/dump.json").read_text())
    [file] = {one["file"] for one in content["passes"][0]["tensors"].values()}
    stored = load_file(tmp_path / "dump" / file)
    assert set(stored) == {*KINDS, "empty"}
    for name, array, _ in values:
        assert stored[name].dtype == array.dtype, name
        np.testing.assert_array_equal(stored[name], array)


@EACH
def test_a_header_without_room_for_more_has_another_file_after_it(tmp_path, write):
    values = [Value(f"{'some.name.' * 20}{i}", np.full((1, 2), i, np.float32), "T D") for i in range(300)]
    write(tmp_path / "dump", [([5], values)])
    [row] = json.loads((tmp_path / "dump/dump.json").read_text())["passes"]
    files = {one["file"] for one in row["tensors"].values()}
    assert len(files) > 1
    assert {path.name for path in (tmp_path / "dump").iterdir()} == {*files, "dump.json"}
    for name, array, _ in values:
        np.testing.assert_array_equal(load_file(tmp_path / "dump" / row["tensors"][name]["file"])[name], array)
    assert len(open_dump(tmp_path / "dump").unaligned) == 300


@EACH
def test_nothing_else_is_left_beside_the_dump(tmp_path, write):
    write(tmp_path / "dump", [([5], [Value("text.layer.0.in", np.zeros((1, 30), np.float32), "T D")])])
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["dump"]


def test_merged_axes_need_weights_that_the_dump_or_the_reader_names(tmp_path):
    with Recorder(tmp_path / "dump", [2, 33]) as rec:
        rec("text.layer.0.attn.q", np.ones((2, 120), np.float32), "T (N H)")
    with pytest.raises(BadInput, match="--weights: wanted the weights that the dump was made with"):
        ref.compare(tmp_path / "dump")
    assert ref.compare(tmp_path / "dump", "tiny")["verdict"] == "bug"
