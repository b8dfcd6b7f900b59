"""`capture --list`, what was heard and what was not, and versions newer than those that were tried."""

import json

import pytest

from ref.capture import adapters
from ref.capture.adapters import ADAPTERS, GIVES, newer_than_tried, numbers
from ref.cli import main
from ref.judge.capture_command import PRODUCERS


def test_the_list_names_each_adapter_what_it_was_tried_with_and_what_it_gives(capsys):
    assert main(["capture", "--list"]) == 0
    told = capsys.readouterr().out
    assert [line.split(":")[0] for line in told.splitlines() if not line.startswith(" ")] == list(ADAPTERS)
    assert "tried with transformers 5.23.0 5.24.0 (" in told
    assert main(["capture", "--list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["transformers"]["gives"] == list(GIVES)
    assert {one["what"] for one in rows["keras"]["lacks"]} == {"cache.positions"}


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_told_is_what_the_judge_knows_of_each(name):
    adapter, can = ADAPTERS[name], PRODUCERS[{"onnx": "onnxruntime"}.get(name, name)]
    assert set(adapter.gives) <= set(GIVES)
    assert ("images" in adapter.gives, "left pads" in adapter.gives) == (can.images, can.left_pads)
    lacks = {end for end, _ in adapter.lacks}
    assert set(can.lacks) <= lacks
    pairwise = {".attn.scores", ".attn.probs"}
    fused = len(can.attention) > 1 or name == "onnx"  # a graph may have attention as one node
    assert bool(pairwise & lacks) == (fused or "scores" not in adapter.gives)
    assert adapter.tried


def test_without_a_witness_it_is_bad_usage(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["capture"])
    assert "the following arguments are required: WITNESS" in capsys.readouterr().err


def test_versions_are_compared_by_their_numbers():
    assert numbers("2.13.0+cpu") == (2, 13, 0)
    assert numbers("5.23.0") < numbers("5.100.0rc1") == (5, 100, 0)
    old = ADAPTERS["keras"]._replace(tried=(("numpy", ("0.1", "1.0")), ("no-such-package", ("1",))))
    assert newer_than_tried(old).startswith("numpy 2.")
    assert newer_than_tried(old).endswith("is newer than 1.0, the newest that was tried")
    assert newer_than_tried(old._replace(tried=(("numpy", ("999.0",)),))) == ""


@pytest.mark.witness
def test_a_newer_version_is_one_line_and_the_capture_goes_on(tmp_path, capsys, monkeypatch):
    old = ADAPTERS["transformers"]._replace(tried=(("transformers", ("4.0.0",)),))
    monkeypatch.setitem(adapters.ADAPTERS, "transformers", old)
    words = ["--weights", "tiny", "--ids", "2,33,5", "-o", str(tmp_path / "d")]
    assert main(["capture", "transformers", *words]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith("capture: transformers 5.") for line in said] == [True, False]
    assert said[0].endswith("is newer than 4.0.0, the newest that was tried")


@pytest.mark.witness
def test_json_says_what_was_heard_and_why_the_rest_was_not(tmp_path, capsys):
    words = ["--weights", "tiny", "--ids", "2,33,5", "--max-new-tokens", "1", "--attention", "sdpa", "--json"]
    assert main(["capture", "transformers", *words, "-o", str(tmp_path / "d")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"text.embed", "text.layer.*.attn.q", "text.layer.*.cache.k"} <= set(said["heard"])
    assert {one["what"]: one["why"].split(";")[0] for one in said["not_heard"]} == {
        "text.layer.*.attn.scores": "a fused attention shows only its result",
        "text.layer.*.attn.probs": "a fused attention shows only its result",
        "text.layer.*.cache.positions": "a cache has no positions there",
    }
    words += ["--taps", "text.layer.3.attn.*", "--taps", "text.embed"]
    assert main(["capture", "transformers", *words, "-o", str(tmp_path / "e")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"text.embed", "text.layer.3.attn.mix"} <= set(said["heard"])
    assert {one["what"] for one in said["not_heard"]} == {"text.layer.3.attn.scores", "text.layer.3.attn.probs"}
