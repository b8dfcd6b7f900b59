"""The scripts of findings/ keep their form: header, strictness, pins, and nothing of this project inside.

They install packages, so that no test runs them; the README there says how.
"""

import os
import re
import stat
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
OURS = re.compile(r"^\s*(?:from|import) (?:ref|golden|tests)\b|gemma3[-_]ref", re.MULTILINE)
PIN = re.compile(r"""^["']?[\w.-]+(?:\[\w+\]|\$extra)?(?:==)(?:\d[\w.]*|\$version)["']?$""")
NPM_PIN = re.compile(r"^@?[\w./-]+@\d[\w.]*$")


def faults(text: str) -> list[str]:
    """Name what a script lacks."""
    lines = text.splitlines()
    header = []
    for line in lines[1:]:
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    prose = " ".join(header)
    wanted = {
        "first line": lines[0] == "#!/usr/bin/env bash",
        "version in the first sentence": bool(header and re.search(r"\d+\.\d+", header[0])),
        "what was guessed": "Guessed before running" in prose,
        "what was seen": "Seen: " in prose,
        "what it needs": "Needs " in prose and "Fails if the behaviour changes." in prose,
        "set -euo pipefail": "set -euo pipefail" in lines,
        "a folder that is removed": "folder=$(mktemp -d)" in lines and "trap 'rm -rf \"$folder\"' EXIT" in lines,
        "an assertion": "assert " in text,
        "nothing of this project": not OURS.search(text),
        "exact versions": bool(installed(text)) and not unpinned(text),
    }
    return [what for what, there in wanted.items() if not there]


def installed(text: str) -> list[str]:
    """List the packages on the lines that install, without flags."""
    rests = re.findall(r"(?:pip\" install|npm install)(.*)$", text, re.MULTILINE)
    words = [word for rest in rests for word in re.sub(r"--prefix \S+", "", rest).split()]
    return [word for word in words if not word.startswith("-")]


def unpinned(text: str) -> list[str]:
    return [word for word in installed(text) if not (PIN.match(word) or NPM_PIN.match(word))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_has_its_form(script):
    assert faults(script.read_text(encoding="utf-8")) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permission")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_executable(script):
    assert script.stat().st_mode & stat.S_IXUSR


def test_the_table_names_every_script_once():
    rows = re.findall(r"^\| \[[^]]+\]\(([^)]+\.sh)\)", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == [script.name for script in SCRIPTS]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("set -euo pipefail", "set -e", "set -euo pipefail"),
        ("numpy==2.4.6", "numpy", "exact versions"),
        ("numpy==2.4.6", "numpy>=2.4", "exact versions"),
        ("import numpy as np", "from ref import compare", "nothing of this project"),
        ("Guessed before running", "Expected", "what was guessed"),
        ("assert ", "print ", "an assertion"),
        ("trap 'rm -rf", "trap 'ls", "a folder that is removed"),
    ],
)
def test_a_fault_is_named(old, new, fault):
    text = (FOLDER / "safetensors-metadata-order.sh").read_text(encoding="utf-8")
    assert old in text
    assert faults(text.replace(old, new)) == [fault]
