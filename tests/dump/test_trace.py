"""`trace` writes dumps of the contract's form, whole or not at all, and what it writes reads back."""

import json

import jsonschema
import numpy as np
import pytest
from support.reports import report_of
from support.tiny import TINY, params

import ref
import ref.dump.trace as trace_module
from ref.cli import main
from ref.commands import FAILED
from ref.dump.write import axes_of, load_pass, read_dump
from ref.errors import BadInput
from ref.golden_files.files import schema
from ref.model.taps import Recorder, tap_names
from ref.model.text import How, forward

IDS = [5, 6, 7, 33, 96, 0, 2]


def trace(folder, *flags, ids=IDS):
    return main(["trace", "--weights", "tiny", "--ids", ",".join(map(str, ids)), "-o", str(folder), *flags])


def test_a_dump_has_every_tap_once_and_their_values(tmp_path, capsys):
    assert trace(tmp_path / "dump") == 0
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    jsonschema.validate(json.loads((tmp_path / "dump" / "dump.json").read_text()), schema("dump"))
    content = read_dump(tmp_path / "dump")
    assert content["producer"] == {"name": "gemma3-ref", "version": ref.__version__}
    assert content["model"]["config"] == json.loads(json.dumps(TINY._asdict()))
    assert content["names"] == "ref"
    [one] = content["passes"]
    assert (one["ids"], one["positions"], one["cached"], one["left_pads"]) == (IDS, list(range(7)), 0, 0)
    assert list(one["tensors"]) == tap_names(TINY.layers)
    recorder = Recorder("*")
    forward(params(), [IDS], How(taps=recorder))
    values = load_pass(tmp_path / "dump", one)
    for tap, value in recorder.values.items():
        np.testing.assert_array_equal(values[tap], value, err_msg=tap)
        assert one["tensors"][tap]["layout"] == axes_of(tap) != ""
        assert len(axes_of(tap).split()) == value.ndim


def test_decoding_steps_are_passes_of_one_token_and_show_the_cache(tmp_path, capsys):
    assert trace(tmp_path / "dump", "--max-new-tokens", "3", "--json") == 0
    written = report_of(capsys.readouterr().out, "trace")
    content = read_dump(tmp_path / "dump")
    names = tap_names(TINY.layers, cached=True)
    assert (len(written["passes"]), written["tensors"]) == (4, 4 * len(names))
    assert written["bytes"] == sum(path.stat().st_size for path in (tmp_path / "dump").glob("*.safetensors"))
    ids = list(IDS)
    for number, one in enumerate(content["passes"]):
        assert list(one["tensors"]) == names
        assert one["ids"] == (ids if number == 0 else ids[-1:])
        assert one["cached"] == (len(ids) - 1 if number else 0)
        assert one["positions"] == list(range(one["cached"], len(ids)))
        values = load_pass(tmp_path / "dump", one)
        assert values["text.layer.5.cache.positions"].tolist() == [list(range(len(ids)))]
        assert values["text.layer.0.cache.positions"].tolist() == [list(range(len(ids)))[-TINY.window :]]
        full, _ = forward(params(), [ids])
        np.testing.assert_allclose(values["text.logits"][0, -1], full[0, -1], rtol=1e-4, atol=1e-5)
        ids.append(int(full[0, -1].argmax()))


def test_only_the_asked_for_taps_in_the_asked_for_dtype(tmp_path, capsys):
    flags = ["--taps", "text.layer.2.attn.q", "--taps", "text.logits", "--dtype", "float64"]
    assert trace(tmp_path / "dump", *flags) == 0
    [one] = read_dump(tmp_path / "dump")["passes"]
    assert list(one["tensors"]) == ["text.layer.2.attn.q", "text.logits"]
    assert {value.dtype for value in load_pass(tmp_path / "dump", one).values()} == {np.dtype(np.float64)}
    assert read_dump(tmp_path / "dump")["policy"]["compute_dtype"] == "float64"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("text.layer.2.attn.qrope", "no tap is called text.layer.2.attn.qrope; near: text.layer.2.attn.q_rope, "),
        ("*.cache.k", "taps: wanted a pattern that matches a tap"),
    ],
)
def test_a_pattern_that_matches_no_tap_of_the_run_is_refused(tmp_path, capsys, pattern, says):
    assert trace(tmp_path / "dump", "--taps", pattern) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_one_in_use_is_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump.new").mkdir()
    (tmp_path / "dump.new" / "mine").touch()
    assert trace(tmp_path / "dump") == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert trace(tmp_path / "dump") == 2
    assert "output folder: wanted an empty or new one, got something in the way" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert trace(tmp_path / "dump" / "dump.json") == 2


def test_the_current_folder_and_new_parents(tmp_path, monkeypatch, capsys):
    assert trace(tmp_path / "a" / "b") == 0
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert trace(".") == 0
    assert read_dump(tmp_path / "here")["passes"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert trace(tmp_path / "file" / "dump") == 2
    assert "output folder: wanted one that can be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 2), (BadInput("x"), 2)]
)
def test_a_run_that_breaks_off_leaves_nothing(tmp_path, monkeypatch, capsys, error, code):
    passes = []

    def breaks_off(*args, **more):
        if passes:
            raise error
        passes.append(forward(*args, **more))
        return passes[0]

    monkeypatch.setattr(trace_module, "forward", breaks_off)
    assert trace(tmp_path / "dump", "--max-new-tokens", "2") == code
    assert passes
    assert list(tmp_path.iterdir()) == []
    assert len(capsys.readouterr().err.splitlines()) <= 1


def test_an_unforeseen_error_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trace_module, "forward", lambda *args, **more: 1 / 0)
    assert trace(tmp_path / "dump") == FAILED
    assert "failed: ZeroDivisionError: division by zero" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
