"""Exit codes: 1 only ever means that a bug was found; whatever else ends the program is one line and another code."""

import pytest
from support.command_line import command
from support.refusing import refusal

from ref.cli import main
from ref.commands import FAILED, params
from ref.errors import BadInput, one_line, wanted

FAILURES = [
    (MemoryError("Unable to allocate 12.9 GiB"), "failed: MemoryError: Unable to allocate 12.9 GiB (--debug"),
    (RecursionError("maximum recursion depth exceeded"), "failed: RecursionError: maximum recursion depth"),
    (OSError(28, "No space left on device"), "failed: OSError: [Errno 28] No space left on device"),
    (KeyError("text.embed"), "failed: KeyError: 'text.embed'"),
    (AssertionError(), "failed: AssertionError (--debug shows where)"),
    (RuntimeError("two\nlines, \x1b[31mred\x1b[0m\x07"), r"failed: RuntimeError: two lines, \x1b[31mred\x1b[0m\x07 ("),
]


def failing(monkeypatch, error):
    def run(args):
        raise error

    monkeypatch.setattr(params, "run", run)


@pytest.mark.parametrize(("error", "says"), FAILURES, ids=[type(error).__name__ for error, _ in FAILURES])
def test_what_nobody_caught_is_one_line_and_no_bug_found(capsys, monkeypatch, error, says):
    failing(monkeypatch, error)
    line = refusal(capsys, "params", code=FAILED)
    assert says in line
    assert len(line) < 400


@pytest.mark.parametrize("arguments", [["--debug", "params"], ["params", "--debug"]])
def test_the_traceback_is_shown_when_asked_for(capsys, monkeypatch, arguments):
    failing(monkeypatch, KeyError("text.embed"))
    assert main(arguments) == FAILED
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("gemma3-ref params: failed: KeyError: 'text.embed'\n")


def test_an_interrupt_is_no_failure(monkeypatch):
    failing(monkeypatch, KeyboardInterrupt())
    assert main(["params"]) == 130


def test_every_parser_takes_debug_and_the_help_lists_the_codes():
    assert main(["golden", "check", "--debug"]) == 0
    shown = command("--help").stdout
    for code, meaning in enumerate(
        ("fine", "a bug was found, and nothing else", "bad usage", "undetermined", "failed")
    ):
        assert any(line.strip().startswith(f"{code}  ") and meaning in line for line in shown.splitlines())


def test_a_refusal_is_printable_whatever_the_file_holds(capsys, monkeypatch):
    failing(monkeypatch, BadInput("a\x1b]0;title\x07b: wanted \u202ethis, got\u2028\x9b31m"))
    assert refusal(capsys, "params") == "gemma3-ref params: a\\x1b]0;title\\x07b: wanted \\u202ethis, got \\x9b31m\n"
    assert str(wanted("name", "x\x1b[2J", "a word", "\x00\ud800")) == r"x\x1b[2J: name: wanted a word, got \x00\ud800"
    assert one_line("Grüße,  日本\tok\u00a0") == "Grüße, 日本 ok"
    assert "\x1b" not in refusal(capsys, "\x1b[31m")  # argparse quotes it
