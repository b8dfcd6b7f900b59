"""Each example does what its two lines say, and what they say of a mistake in it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ref.cli import main

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def changed(path: Path, old: str, new: str, folder: Path) -> Path:
    """Write a copy of a file with one place changed."""
    text = path.read_text()
    assert text.count(old) == 1, old
    copy = folder / path.name
    copy.write_text(text.replace(old, new))
    return copy


def needs(program: str):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}, which is not installed")


def answered(capsys, rule: str, *program: str, code: int) -> dict:
    arguments = ["check-rule", rule, "--json", "--examples", "150", "--exec", *program]
    assert main(arguments) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_each_says_in_two_lines_what_it_is_and_names_its_file(folder):
    lines = (folder / "README.md").read_text().splitlines()
    assert len(lines) == 2
    [file] = [path for path in folder.iterdir() if path.is_file() and path.name != "README.md"]
    assert file.name in "".join(lines)


@pytest.mark.parametrize(
    ("old", "new", "code", "named"),
    [("(1 + gain)", "(1 + gain)", 0, None), ("(1 + gain)", "gain", 1, "norm_without_plus_one")],
    ids=["right", "wrong"],
)
def test_a_dump_from_plain_numpy(tmp_path, monkeypatch, capsys, old, new, code, named):
    script = changed(EXAMPLES / "numpy_dump/dump.py", old, new, tmp_path)
    subprocess.run([sys.executable, str(script)], check=True, cwd=tmp_path, env=ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    [command] = re.findall(r"`gemma3-ref (compare [^`]+)`", (EXAMPLES / "numpy_dump/README.md").read_text())
    assert main([*command.split(), "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert [one["mutant"] for one in report["diagnosis"] if one["verdict"] == "named"] == [named] * bool(named)


def test_the_dump_takes_fifteen_lines():
    tree = ast.parse((EXAMPLES / "numpy_dump/dump.py").read_text())
    body = tree.body[1:]  # after the docstring
    assert sum(node.end_lineno - node.lineno + 1 for node in body) <= 15


def ran(suite: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull]
    command += [f"--rootdir={suite.parent}", *arguments, str(suite)]
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=suite.parent, env=environment, capture_output=True, text=True)


def test_a_suite_with_a_right_and_a_wrong_mask(tmp_path):
    suite = Path(shutil.copy(EXAMPLES / "pytest_suite/test_my_port.py", tmp_path))
    out = ran(suite).stdout
    assert out.splitlines()[-1].startswith("3 passed, 1 xfailed"), out


def test_without_its_mark_the_wrong_mask_is_drawn_and_named(tmp_path):
    source = EXAMPLES / "pytest_suite/test_my_port.py"
    [mark] = re.findall(r"^@pytest.mark.xfail.*\n", source.read_text(), re.M)
    done = ran(changed(source, mark, "", tmp_path), "-k", "wrong_mask")
    assert done.returncode == 1
    assert "as if: window_plus_one" in done.stdout


@needs("cc")
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [("6 * shorter) return 0", "6 * shorter) return 0", 0), ("5 * longer < 6", "2 * longer < 3", 1)],
    ids=["right", "wrong"],
)
def test_a_child_in_c(tmp_path, capsys, old, new, code):
    source = changed(EXAMPLES / "c_child/crops.c", old, new, tmp_path)
    warnings = ["-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", "-O2", *warnings, "-o", str(tmp_path / "crops"), str(source)], check=True)
    report = answered(capsys, "crops", str(tmp_path / "crops"), code=code)
    assert report["mutant"] == (None if code == 0 else "crops_threshold_1.5")


@needs("node")
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [("- window + 1", "- window + 1", 0), ("- window + 1", "- window", 1)],
    ids=["right", "wrong"],
)
def test_a_child_in_javascript(tmp_path, capsys, old, new, code):
    source = changed(EXAMPLES / "node_child/visibility.js", old, new, tmp_path)
    report = answered(capsys, "visibility", "node", str(source), code=code)
    assert report["mutant"] == (None if code == 0 else "window_plus_one")
