"""Pipes, sockets and devices in the place of files: every reader refuses them, at once and in one line."""

import os
import shutil
import signal
import socket
from contextlib import contextmanager

import pytest
from support.checkpoints import save_tiny
from support.dumps_on_disk import ROW, VALUE, Q, written
from support.refusing import refusal

from ref.dump.open import open_dump
from ref.dump.write import load_pass, read_dump
from ref.errors import BadInput
from ref.golden_files.files import check_golden, golden_root, read_case
from ref.prompt.images import read_image
from ref.prompt.rebuild import cached_model
from ref.prompt.tokenizer import Tokenizer
from ref.untrusted import open_regular
from ref.weights.resolve import load

__all__ = ["dump"]  # a fixture


@pytest.fixture
def dump(tmp_path):
    return written(tmp_path / "dump", (ROW, {Q: VALUE}))


@contextmanager
def at_once(seconds=20):
    """Fail what waits; a kernel that is compiled first takes a few seconds."""

    def stop(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def refused(read, path):
    with at_once(), pytest.raises(BadInput) as error:
        read(path)
    assert len(str(error.value).splitlines()) == 1
    assert "device or pipe" in str(error.value) or "nothing" in str(error.value), error.value
    return str(error.value)


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors", "x.json", "x.txt", "x.log"])
def test_dumps(tmp_path, name):
    refused(open_dump, pipe(tmp_path / name))


@pytest.mark.parametrize("name", ["dump.json", "pass0000.safetensors"])
def test_files_of_a_dump(dump, name):
    pipe(dump / name)
    refused(open_dump, dump)


def test_a_pass_of_a_dump(dump):
    [one] = read_dump(dump)["passes"]
    pipe(dump / "pass0000.safetensors")
    refused(lambda path: load_pass(path, one), dump)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json"])
def test_weights(tmp_path, name):
    save_tiny(tmp_path / "tiny")
    pipe(tmp_path / "tiny" / name)
    if name != "generation_config.json":  # one that is no file is not there
        refused(lambda path: load(str(path)), tmp_path / "tiny")


def test_a_tokenizer_an_image_and_goldens(tmp_path):
    refused(Tokenizer.from_file, pipe(tmp_path / "tokenizer.model"))
    refused(read_image, pipe(tmp_path / "x.png"))
    refused(read_image, "/dev/zero")
    case = shutil.copytree(golden_root() / "cases" / "tiny" / "packed", tmp_path / "case")
    pipe(case / "pass00.safetensors")
    refused(read_case, case)
    pipe(case / "case.json")
    refused(read_case, case)
    pipe(tmp_path / "MANIFEST.json")
    refused(check_golden, tmp_path)
    pipe(tmp_path / "tokenizer-key.model")
    with at_once():
        assert cached_model("key", lambda: b"made", tmp_path) == b"made"


def test_commands(capsys, tmp_path):
    path = str(pipe(tmp_path / "ids"))
    with at_once():
        assert "a device or pipe" in refusal(capsys, "generate", "--weights", "tiny", "--ids", path)
        refusal(capsys, "generate", "--weights", path, "--ids", "1")
        refusal(capsys, "crops", path)


def test_sockets_folders_links_and_names_that_are_none(tmp_path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
        refused(open_regular, tmp_path / "s")
    (tmp_path / "loop").symlink_to("loop")
    for path, says in ((tmp_path, "a folder"), (tmp_path / "loop", "symbolic links"), (tmp_path / "a\0b", "null byte")):
        with pytest.raises(BadInput, match=says):
            open_regular(path)
    (tmp_path / "link").symlink_to(pipe(tmp_path / "p"))
    refused(open_regular, tmp_path / "link")
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "good").symlink_to("file")
    with open_regular(tmp_path / "good") as file:
        assert file.read() == b"content"
