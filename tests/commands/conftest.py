"""Programs in Python, written for one test."""

import sys

import pytest


@pytest.fixture
def child(tmp_path):
    """Write a Python program that loops over cases: `answer(case, number)` returns what it prints."""

    def make(body, ready="", after=""):
        path = tmp_path / "child.py"
        path.write_text(
            f"import json, os, signal, sys, time\n{ready}\n"
            "for number, line in enumerate(sys.stdin):\n"
            "    case = json.loads(line)\n"
            + "".join(f"    {one}\n" for one in body.splitlines())
            + "    sys.stdout.flush()\n"
            + after
        )
        return [sys.executable, str(path)]

    return make
