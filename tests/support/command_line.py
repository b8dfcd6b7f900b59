"""Running commands: in this process or as one of their own."""

import json
import subprocess
import sys

from support.reports import report_of

from ref.cli import main
from ref.golden_files.report_format import KINDS
from ref.model.generate import Sampling, generate
from ref.weights.resolve import load

IDS = "2,33,5,80"
PROMPT = [2, 33, 5, 80]


def command(*arguments: str) -> subprocess.CompletedProcess:
    """Run the program as a process of its own."""
    return subprocess.run([sys.executable, "-m", "ref", *arguments], capture_output=True, text=True)


def json_of(capsys, *arguments: str, code=0):
    """Run a command with --json in this process and return its one document."""
    assert main([*arguments, "--json"]) == code
    out = capsys.readouterr().out
    return report_of(out, arguments[0]) if arguments[0] in KINDS else json.loads(out)


def greedy(count, **settings):
    steps = generate(load("tiny").params, [PROMPT], count, Sampling(greedy=True, **settings))
    return [step[0] for step in steps]
