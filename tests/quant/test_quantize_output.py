"""Where `quantize` writes to: what `-o` may be, and that a refusal leaves the place as it was."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.checkpoints import change_tensors, save_tiny

import ref
from ref.cli import main
from ref.quant import output, write


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def make_link(place, target):
    (place / "link").symlink_to(target)


WRITTEN = [
    (".", lambda place: None, "."),
    ("new", lambda place: None, "new"),
    ("n1/n2/n3", lambda place: None, "n1/n2/n3"),
    ("x" * 255, lambda place: None, "x" * 255),
    ("empty", lambda place: (place / "empty").mkdir(), "empty"),
    ("link", lambda place: ((place / "empty").mkdir(), make_link(place, "empty")), "empty"),
    ("link", lambda place: make_link(place, "nowhere"), "nowhere"),
    ("out", lambda place: (place / f".out.{os.getpid()}.part").write_text("mine"), "out"),
]
REFUSED = [
    ("x" * 300, lambda place: None, "wanted one that can be made, got File name too long"),
    ("file", lambda place: (place / "file").write_text("mine"), "wanted an empty or new one, got a file"),
    ("file/out", lambda place: (place / "file").write_text("mine"), "wanted one that can be made, got Not a directory"),
    ("full", lambda place: (place / "full/a").mkdir(parents=True), "wanted an empty or new one, got files in it"),
    ("link", lambda place: make_link(place, "link"), "wanted one that can be made, got "),
]  # fmt: skip


def quantise(weights, out):
    return main(["quantize", "--weights", weights, "--format", "int4", "-o", out])


@pytest.mark.parametrize(("out", "before", "found"), WRITTEN)
def test_what_is_new_or_empty_is_written_to(tmp_path, monkeypatch, capsys, out, before, found):
    before(tmp_path)
    monkeypatch.chdir(tmp_path)
    was = set(listing(tmp_path))
    assert quantise("tiny", out) == 0
    parents = {str(one) for one in [tmp_path / found, *(tmp_path / found).parents] if one.is_relative_to(tmp_path)}
    new = {str(tmp_path / one) for one in set(listing(tmp_path)) - was} - parents
    assert new == {str(tmp_path / found / name) for name in ("config.json", "model.safetensors")}
    assert ref.load(capsys.readouterr().out.split()[1]).params.config.width == 36


@pytest.mark.parametrize(("out", "before", "line"), REFUSED)
def test_what_is_not_is_refused_in_one_line(tmp_path, monkeypatch, capsys, out, before, line):
    before(tmp_path)
    monkeypatch.chdir(tmp_path)
    was = listing(tmp_path)
    assert quantise("tiny", out) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
    assert listing(tmp_path) == was


@pytest.mark.parametrize(("out", "before", "_"), WRITTEN)
def test_a_refusal_leaves_the_place_as_it_was(tmp_path, monkeypatch, capsys, out, before, _):
    save_tiny(tmp_path / "bad", bfloat16=False)
    change_tensors(tmp_path / "bad", lambda tensors: tensors["model.norm.weight"].__setitem__(3, np.nan))
    place = tmp_path / "place"
    place.mkdir()
    before(place)
    monkeypatch.chdir(place)
    was = listing(place)
    assert quantise(str(tmp_path / "bad"), out) == 2
    assert "model.norm.weight: value: wanted finite numbers, got nan at [3]" in capsys.readouterr().err
    assert listing(place) == was


def test_no_room_is_named_and_nothing_is_left(tmp_path, monkeypatch, capsys):
    def half(parts, folder):
        (folder / "0.part").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_shards", half)
    assert quantise("tiny", str(tmp_path / "out")) == 2
    assert capsys.readouterr().err.endswith("out: folder: wanted room to write, got No space left on device\n")
    assert not listing(tmp_path)


def test_a_file_that_cannot_be_moved_takes_the_others_back(tmp_path, monkeypatch, capsys):
    def meanwhile(parts, folder):
        (folder / "model.safetensors").write_bytes(b"whole")
        (tmp_path / "out/config.json").mkdir()  # somebody else's

    monkeypatch.setattr(write, "write_shards", meanwhile)
    assert quantise("tiny", str(tmp_path / "out")) == 2
    assert "folder: wanted room to write, got Is a directory" in capsys.readouterr().err
    assert listing(tmp_path) == ["out", "out/config.json"]


def test_the_configuration_is_moved_last(tmp_path, monkeypatch):
    """Without it no reader takes the folder for a checkpoint, should the process be killed in between."""
    moved, rename = [], Path.rename
    monkeypatch.setattr(Path, "rename", lambda file, to: moved.append(file.name) or rename(file, to))
    with output.filled(tmp_path / "out") as place:
        for name in ("a", "config.json", "z"):
            (place / name).write_text(name)
    assert moved[-1] == "config.json"
    assert listing(tmp_path / "out") == sorted(moved) == ["a", "config.json", "z"]
