"""Commands in the text of a report: they fit the width, and a shell reads them as they were."""

import shlex
import subprocess

import pytest
from support.report_examples import example

from ref.report.next_lines import broken, next_lines
from ref.report.text import render_text

COMMAND = shlex.join(
    ["gemma3-ref", "capture", "transformers", "--like", "a dump", *["--taps", "text.layer.*[0-9].out"] * 9, "-o", "b"]
)


def row(why, command=COMMAND, prompt=""):
    return {"why": why, "command": command, "prompt": prompt}


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_broken_command_is_the_same_command(width):
    lines = list(broken(COMMAND, width))
    assert len(lines) > 2
    assert max(map(len, lines)) <= width
    assert all(line.endswith(" \\") for line in lines[:-1])
    heard = subprocess.run(
        ["sh", "-c", "printf '%s\\n' " + "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert heard.stdout.splitlines() == shlex.split(COMMAND)


def test_the_text_shows_the_commands_of_what_is_open_only():
    report = example()[0] | {
        "decide": "one; two",
        "next": [row("one"), row("two", "x y", "prompt.json"), row("other", "z")],
    }
    text = render_text(report, 120)
    after = text[text.index("what would decide: one; two") :]
    assert "gemma3-ref capture transformers --like 'a dump'" in after
    assert "\n  x y\n  (the same compare with --next DIR writes the prompt file)" in after
    assert "\n  z" not in text


def test_many_commands_are_counted():
    several = [row(f"why {i}", f"command {i}") for i in range(5)]
    report = {"decide": "; ".join(one["why"] for one in several), "next": several}
    lines = list(next_lines(report, 80))
    assert lines[:3] == [f"  command {i}" for i in range(3)]
    assert lines[3] == "  and 2 more commands: the same compare with --next DIR writes them all"


def test_a_report_without_advice_has_no_lines():
    assert list(next_lines({"decide": ""}, 80)) == []
