"""`sketch` and `capture --sketch`: small dumps from the command line, and what is captured whole after one."""

import json

import pytest
from support.reports import report_of

from ref.cli import main
from ref.commands import BAD_INPUT, FINE
from ref.dump.prompt_file import prompt_of
from ref.dump.write import read_dump
from ref.record import SKETCH_VALUES

IDS = "2,33,5,80,7,9"


def traced(folder):
    assert main(["trace", "--weights", "tiny", "--ids", IDS, "-o", str(folder)]) == FINE
    return folder


def test_sketch_writes_a_small_dump_that_matches(tmp_path, capsys):
    whole, small = traced(tmp_path / "whole"), tmp_path / "small"
    capsys.readouterr()
    assert main(["sketch", str(whole), "-o", str(small), "--values", "12", "--seed", "5", "--json"]) == FINE
    written = report_of(capsys.readouterr().out, "sketch")
    assert written["tensors"] == len(read_dump(whole)["passes"][0]["tensors"])
    assert read_dump(small)["sketch"] == {"values": 12, "seed": 5}
    assert main(["compare", str(small), "--json"]) == FINE
    report = report_of(capsys.readouterr().out, "compare")
    assert report["compared"]["sketched"] > 100
    digests = [row["sha256"] for row in report["taps"] if "sha256" in row]
    assert len(digests) == report["compared"]["sketched"]


def test_two_machines_are_told_equal_bit_for_bit(tmp_path, capsys):
    traced(tmp_path / "a")
    assert main(["trace", "--weights", "tiny", "--ids", IDS, "--dtype", "float64", "-o", str(tmp_path / "b")]) == FINE
    for one in "ab":
        assert main(["sketch", str(tmp_path / one), "-o", str(tmp_path / f"small-{one}"), "--values", "12"]) == FINE
    assert main(["sketch", str(tmp_path / "a"), "-o", str(tmp_path / "again"), "--values", "12"]) == FINE
    count = sum("sketch" in row for row in read_dump(tmp_path / "again")["passes"][0]["tensors"].values())
    for other, same in (("again", count), ("small-b", 0)):
        capsys.readouterr()
        main(["compare", str(tmp_path / "small-a"), str(tmp_path / other)])
        assert f"; {same} of the {count} whose digests are known have the same bits" in capsys.readouterr().err


def test_the_default_is_the_one_that_help_says(tmp_path):
    whole = traced(tmp_path / "whole")
    assert main(["sketch", str(whole), "-o", str(tmp_path / "small")]) == FINE
    assert read_dump(tmp_path / "small")["sketch"]["values"] == SKETCH_VALUES == 2560


def test_a_small_one_is_no_source(tmp_path, capsys):
    whole = traced(tmp_path / "whole")
    assert main(["sketch", str(whole), "-o", str(tmp_path / "small"), "--values", "12"]) == FINE
    assert main(["sketch", str(tmp_path / "small"), "-o", str(tmp_path / "smaller")]) == BAD_INPUT
    assert "sketches of sketches there are none" in capsys.readouterr().err
    assert not (tmp_path / "smaller").exists()


def test_like_a_small_one_captures_its_prompt_and_the_taps_that_are_asked_for(tmp_path):
    whole = traced(tmp_path / "whole")
    assert main(["sketch", str(whole), "-o", str(tmp_path / "small"), "--values", "12"]) == FINE
    prompt, taps = prompt_of(tmp_path / "small")
    assert (prompt.rows, taps) == ([[2, 33, 5, 80, 7, 9]], [])
    assert prompt_of(whole)[1]


@pytest.mark.witness
def test_capture_writes_one_at_once_and_what_next_asks_for(tmp_path):
    argv = ["capture", "transformers", "--weights", "tiny"]
    assert main([*argv, "--ids", ",".join(map(str, range(2, 92))), "--sketch", "-o", str(tmp_path / "small")]) == FINE
    content = read_dump(tmp_path / "small")
    assert content["sketch"] == {"values": 2560, "seed": 0}
    assert any("sketch" in one for one in content["passes"][0]["tensors"].values())
    more = ["--like", str(tmp_path / "small"), "--taps", "text.layer.2.mid", "-o", str(tmp_path / "next")]
    assert main([*argv, *more]) == FINE
    [one] = json.loads((tmp_path / "next" / "dump.json").read_text())["passes"]
    assert list(one["tensors"]) == ["text.layer.2.mid"]
    assert "sketch" not in one
