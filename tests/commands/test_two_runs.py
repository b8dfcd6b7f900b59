"""Two runs into one folder, and what a killed one left: one line for the loser, nothing in the way of the next."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support.dumps_on_disk import MODEL, POLICY, ROW, VALUE, Q
from support.refusing import refusal

from ref.cli import main
from ref.dump.open import open_dump
from ref.dump.write import DumpWriter
from ref.errors import BadInput
from ref.quant.output import PART, filled
from ref.weights.unfinished import held, is_abandoned


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def writer(folder):
    made = DumpWriter(folder, MODEL, POLICY)
    made.add_pass({Q: VALUE}, ROW)
    return made


# dumps


def test_the_slower_of_two_dumps_is_one_line_and_leaves_nothing(tmp_path):
    first, second = writer(tmp_path / "d"), writer(tmp_path / "d")
    assert first.new != second.new
    first.close()
    with pytest.raises(BadInput, match=r"d: output folder: wanted .*, got files in it by now: another run was quicker"):
        second.close()
    assert listing(tmp_path) == ["d", "d/dump.json", "d/pass0000.safetensors"]
    np.testing.assert_array_equal(open_dump(tmp_path / "d").passes[0].tensors[Q].load(), VALUE)


def test_the_loser_of_two_traces_gets_one_line(tmp_path, capsys, monkeypatch):
    rename = type(tmp_path).rename

    def meanwhile(self, to):
        if self.suffix == ".part":
            to.mkdir(exist_ok=True)
            (to / "dump.json").write_text("theirs")
        return rename(self, to)

    monkeypatch.setattr(type(tmp_path), "rename", meanwhile)
    line = refusal(
        capsys, "trace", "--weights", "tiny", "--ids", "2,3", "--taps", "text.embed", "-o", str(tmp_path / "d")
    )
    assert "another run was quicker" in line
    assert listing(tmp_path) == ["d", "d/dump.json"]


def test_leftovers_of_a_killed_process_with_the_same_number_are_not_in_the_way(tmp_path, capsys):
    (tmp_path / f"d.{os.getpid()}.part").mkdir()  # as in a container, where each process has the same
    (tmp_path / f"d.{os.getpid()}-1.part").mkdir()
    assert main(["trace", "--weights", "tiny", "--ids", "2,3", "--taps", "text.embed", "-o", str(tmp_path / "d")]) == 0
    assert (tmp_path / "d" / "dump.json").is_file()
    capsys.readouterr()


def test_what_does_not_fit_the_schema_leaves_nothing(tmp_path):
    made = writer(tmp_path / "d")
    made.content["passes"][0]["ids"] = [1.5]
    with pytest.raises(Exception, match=r"1\.5 is not of type"):
        made.close()
    assert listing(tmp_path) == []


# checkpoints


def quantise(out):
    return ["quantize", "--weights", "tiny", "--format", "int4", "-o", str(out)]


KILLED = """
import sys, time
from pathlib import Path
from ref.quant.output import filled
with filled(Path(sys.argv[1])) as part:
    (part / "model.safetensors").write_bytes(b"half")
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_live_run_is_respected_and_a_killed_one_replaced(tmp_path, capsys):
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        line = refusal(capsys, *quantise(out))
        assert "out: folder: wanted an empty or new one, got another run that is writing there" in line
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [name.startswith(PART) for name in listing(out)][:1] == [True]
    assert main(quantise(out)) == 0
    assert listing(out) == ["config.json", "model.safetensors"]


def test_two_that_begin_at_once_do_not_mix(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    other = out / f"{PART}other"

    def begun(folder):
        with filled(out) as part:
            (part / "config.json").write_text("ours")

    other.mkdir()
    with held(other), pytest.raises(BadInput, match="got another run that is writing there"):
        begun(out)
    assert listing(out) == [other.name]
    begun(out)  # and now it is nobody's
    assert listing(out) == ["config.json"]


def test_one_that_comes_in_between_is_seen(tmp_path, monkeypatch):
    out = tmp_path / "out"
    real = type(tmp_path).iterdir

    def late(self):
        if self == out and any(one.name.startswith(PART) for one in real(self)):
            (out / f"{PART}late").mkdir(exist_ok=True)
        return real(self)

    monkeypatch.setattr(type(tmp_path), "iterdir", late)
    with pytest.raises(BadInput, match="got another run that is writing there"), filled(out):
        raise AssertionError("it began")
    assert listing(out) == [f"{PART}late"]


def test_only_a_lock_tells_what_is_abandoned(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    assert is_abandoned(folder)
    with held(folder):
        assert not is_abandoned(folder)
        with held(folder):  # held by another already: no error
            assert not is_abandoned(folder)
    assert is_abandoned(folder)
    (tmp_path / "link").symlink_to(folder)
    assert not is_abandoned(tmp_path / "link")
    assert not is_abandoned(tmp_path / "none")
