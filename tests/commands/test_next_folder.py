"""`compare --next DIR`: what is written, what is refused, and that transformers runs the commands as they stand."""

import itertools
import json
import shlex

import pytest
from PIL import Image
from support.refusing import refusal
from support.reports import report_of

import ref
from ref.cli import main
from ref.commands import next_folder
from ref.commands.next_folder import write_next
from ref.dump.open import open_dump
from ref.dump.prompt_file import read_prompt_file
from ref.dump.trace import trace
from ref.errors import BadInput
from ref.golden_files.files import golden_root
from ref.model.text import How

BUG = str(golden_root() / "dumps/tiny-bug")


@pytest.fixture
def told(tmp_path, capsys):
    """Return what a comparison with --next says and writes."""
    folder = tmp_path / "some/new place"
    code = main(["compare", BUG, "--next", str(folder), "--json"])
    out, err = capsys.readouterr()
    assert code == 1
    return report_of(out, "compare"), folder, err


def test_the_folder_has_a_readme_and_what_it_names(told):
    report, folder, err = told
    assert f"{folder}: README.txt says what to capture next" in err
    text = (folder / "README.txt").read_text()
    assert report["next"]
    for one in report["next"]:
        assert one["why"] in text
        assert one["command"] in text
        if one["prompt"]:
            prompt = read_prompt_file(folder / one["prompt"])
            assert [Image.open(path).format for path in prompt.images] == ["PNG"] * len(prompt.images)
    files = {path.name for path in folder.iterdir()}
    named = {one["prompt"] for one in report["next"]} - {""}
    assert files == {"README.txt", *named, *(file for file in files if file.endswith(".png"))}
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_in_use_is_refused_before_anything_is_judged(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("x")
    monkeypatch.setattr("ref.judge.compare.compare_with_profiles", None)
    for name in ("mine", "mine/file"):
        line = refusal(capsys, "compare", BUG, "--next", str(tmp_path / name))
        assert "--next: wanted an empty or new folder, got something in the way" in line
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    trace(ref.load("tiny"), [[2, 5, 7]], tmp_path / "d", How(), ["text.embed"], 0)
    report = ref.compare(tmp_path / "d")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(next_folder, "_write_prompt", fails)
    with pytest.raises(BadInput, match="a place that can be written, got No space left on device"):
        write_next(tmp_path / "next", report, {"prompt.json": None})
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_where_nothing_is_left_to_capture_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ref.judge.advice.Advice.of", lambda *_: [])
    assert main(["compare", str(golden_root() / "dumps/tiny"), "--next", str(tmp_path / "next")]) == 0
    assert "not written, as nothing is left to capture" in capsys.readouterr().err
    assert not (tmp_path / "next").exists()


@pytest.fixture
def dump(tmp_path):
    """Return the folder of a short dump of transformers that lacks most taps."""
    words = ["--weights", "tiny", "--ids", "2,33,5,80"]
    words += [word for tap in ("text.embed", "text.layer.3.in", "*.attn.q_rope") for word in ("--taps", tap)]
    assert main(["capture", "transformers", *words, "-o", str(tmp_path / "dump")]) == 0
    return tmp_path / "dump"


@pytest.mark.witness
def test_transformers_runs_the_prompt_and_more_is_exercised(dump, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    main(["compare", "dump", "--next", "next", "--json"])
    before = json.loads(capsys.readouterr().out)
    [one] = before["next"]
    assert main(shlex.split(one["command"])[1:]) == 0
    after = ref.compare(tmp_path / "next-dump")
    assert after["verdict"] == "match"
    lost = ("the window was not", "no image", "no cached pass", "no left pads")
    assert all(any(line.find(words) >= 0 for line in before["coverage"]) for words in lost)
    assert not any(words in line for line in after["coverage"] for words in lost)


@pytest.mark.witness
def test_transformers_runs_the_taps_that_are_asked_for(dump, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = open_dump("dump")
    tap, one = "text.layer.3.attn.q_rope", opened.passes[0]
    wrong = one.tensors[tap]
    tensors = one.tensors | {tap: wrong._replace(read=lambda: wrong.read()[..., ::-1] ** 3)}
    report = ref.compare(opened._replace(passes=[one._replace(tensors=tensors)]))
    words = shlex.split(report["next"][0]["command"])
    asked = [word for flag, word in itertools.pairwise(words) if flag == "--taps"]
    assert f"{tap[:-4]}norm" in asked
    assert main(words[1:]) == 0
    new = open_dump("next-dump").passes[0]
    assert set(new.tensors) == {*one.tensors, *asked}
    assert new.ids.tolist() == one.ids.tolist()
