"""`check-rule`: children that do not keep to the protocol, how they are ended, and the help that shows it."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from support.child_programs import RIGHT
from support.refusing import refusal

import ref.cli
from ref.commands import check_rule
from ref.errors import BadInput
from ref.mutants.visibility_parts import Layout, visible
from ref.ops.pan_and_scan import crop_boxes
from ref.testing.answers import Ended, plain_question, read_mask
from ref.testing.child import Child, RuleError

SHORT = ("--timeout", "0.5")  # of children that never answer; others get long, for a loaded machine is slow to start
LONG = ("--timeout", "60")


@pytest.mark.parametrize(
    ("body", "ready", "after", "message"),
    [
        ("time.sleep(600)", "", "", 'answer 1: wanted within 0.5 s, got nothing, to {"width": 640'),
        ("print('[]' if number < 3 else '', end='\\n' if number < 3 else '')\nif number == 3: time.sleep(600)", "", "",
         "answer 4: wanted within 5 s"),
        ("sys.exit('cannot\\nload the rule')", "", "", "got exit code 1 (load the rule), to {"),
        ("sys.exit(0)", "", "", "got exit code 0, to {"),
        ("", "sys.exit(3)", "", "wanted one line, got exit code 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "", "", "got Segmentation fault"),
        ("os.close(1)\ntime.sleep(600)", "", "", "got its output closed"),
        ("print('boxes: none')", "", "", "answer 1: wanted a line of JSON, got b'boxes: none\\n'"),
        ("print()", "", "", "wanted a line of JSON, got b'\\n'"),
        ("print('[' * 100000)", "", "", "wanted a line of JSON, got b'[["),
        ("sys.stdout.buffer.write(b'\\xff\\xfe\\n')", "", "", "wanted a line of JSON"),
        ("sys.stdout.write('[]')\nsys.stdout.flush()\nos._exit(0)", "", "", "wanted a whole line, got b'[]' and then"),
        ("print('[]\\n[]')", "", "", "question"),  # when it shows depends on who is faster
        ("while True: sys.stdout.write('[' * 65536)", "", "", "wanted at most 1048576 bytes a line, got more"),
        ("while True: print('[]')", "", "", "question"),
        ("", "print('hello', flush=True)\ntime.sleep(0.3)", "", "got b'hello\\n'"),
        ("print(crops(case))", RIGHT, "print('done')\n", "wanted no more lines than questions, got more than "),
        ("while True: sys.stderr.write('x' * 65536)", "", "", "wanted within 0.5 s"),
    ],
)  # fmt: skip
def test_a_child_that_breaks_the_protocol_is_refused_in_one_line(capsys, child, body, ready, after, message):
    begin = time.monotonic()
    program = child(body, ready, after)
    short = {"within 0.5 s": SHORT, "within 5 s": ("--timeout", "5")}
    timeout = next((flags for words, flags in short.items() if words in message), LONG)
    said = refusal(capsys, "check-rule", "crops", *timeout, "--exec", *program)
    assert message in said
    assert said.startswith(f"gemma3-ref check-rule: {sys.executable}: answer ")
    assert time.monotonic() - begin < 300  # half of what the sleepers sleep


def test_a_child_whose_answers_are_one_behind_is_not_taken_for_a_wrong_rule(capsys, child):
    ready = f"{RIGHT}\nprint('[]', flush=True)\n"  # a greeting that looks like an answer
    said = refusal(capsys, "check-rule", "crops", *LONG, "--exec", *child("print(crops(case))", ready))
    assert "answer" in said
    ready = f"{RIGHT}\nlast = []\n"
    program = child("print(last or crops(case))\nlast = crops(case)", ready)
    said = refusal(capsys, "check-rule", "crops", *LONG, "--exec", *program)
    assert "wanted the same whatever was asked before, got another from a fresh child" in said


def test_a_child_that_never_reads_does_not_hang_us(capsys, child):
    program = child("", "while True:\n    print('[]', flush=True)\n    time.sleep(0.001)")
    refusal(capsys, "check-rule", "crops", "--timeout", "5", "--examples", "3000", "--exec", *program)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["crops"], "required: --exec"),
        (["crops", "--exec"], "wanted a program and its arguments, got none"),
        (["crops", "--exec", ""], "wanted a program and its arguments, got none"),
        (
            ["crops", "--exec", "./no-such-program"],
            "./no-such-program: program: wanted one that can be started",
        ),
        (["crops", "--exec", "/"], "/: program: wanted one that can be started, got Permission denied"),
        (["crops", "--exec", "a\0b"], "wanted one that can be started, got embedded null byte"),
        (["tokens", "--exec", "cat"], "invalid choice: 'tokens'"),
        (["crops", "--examples", "0", "--exec", "cat"], "examples: wanted 1 or more, got 0"),
        (["crops", "--timeout", "0", "--exec", "cat"], "timeout: wanted seconds, more than 0, got 0.0"),
        (["crops", "--timeout", "nan", "--exec", "cat"], "timeout: wanted seconds, more than 0, got nan"),
        (["crops", "--policy", "hf", "--exec", "cat"], "invalid choice: 'hf'"),
        (["visibility", "--without", "image", "--exec", "cat"], "without: wanted images long-images"),
    ],
)
def test_bad_usage(capsys, arguments, message):
    assert message in refusal(capsys, "check-rule", *arguments)


def test_a_file_that_is_no_program(capsys, tmp_path):
    path = tmp_path / "rule"
    path.write_text("no program")
    path.chmod(0o755)
    assert "wanted one that can be started, got Exec format error" in refusal(
        capsys, "check-rule", "crops", "--exec", str(path)
    )


def test_the_help_shows_the_protocol(capsys):
    with pytest.raises(SystemExit):
        ref.cli.main(["check-rule", "--help"])
    assert check_rule.PROTOCOL in capsys.readouterr().out


def test_the_cases_and_answers_in_the_help_are_right():
    lines = check_rule.PROTOCOL.splitlines()
    at = next(i for i, line in enumerate(lines) if '"soft"' in line)
    case = json.loads(lines[at].split("case", 1)[1] + lines[at + 1])
    layout = Layout(np.array(case["soft"], bool), np.array(case["first"]), case["start"], case["window"], "current", 3)
    assert plain_question(layout) == case
    answers = [json.loads(answer) for answer in lines[at + 2].split("answer", 1)[1].split("  or ")]
    for kind, answer in zip(("matrix", "matrix", "ranges"), answers, strict=True):
        np.testing.assert_array_equal(read_mask(kind, layout, answer), visible(layout))
    at = next(i for i, line in enumerate(lines) if '"width"' in line)
    case, answer = (json.loads(lines[at + i].split(None, 1)[1]) for i in (0, 1))
    assert crop_boxes(1000, 2500, case["min_ratio"], case["min_crop"], case["max_crops"], True).tolist() == answer


# --- the child itself -----------------------------------------------------------------------------------------------


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")  # noqa: PTH112
@pytest.mark.parametrize(("then", "code"), [("time.sleep(60)", -9), ("", 0), ("os._exit(3)", 3)])
def test_ending_a_child_ends_what_it_started_and_nothing_else(child, then, code):
    """Whether it still runs then, ended with its stdin, or died before: what it left behind is in its group."""
    other = subprocess.Popen(["sleep", "60"])
    try:
        body = f"import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid, flush=True)\n{then}"
        with Child(child(body), timeout=60) as asked:
            grandchild = asked.ask({})
            assert alive(grandchild)
            if code != -9:
                asked.close()
        assert asked.process.returncode == code
        deadline = time.monotonic() + 60
        while alive(grandchild) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not alive(grandchild)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_asking_by_hand(child):
    with Child(child('print(json.dumps(case["a"] + number))')) as asked:
        assert [asked.ask({"a": 3}) for _ in range(3)] == [3, 4, 5]
        asked.close()
    assert asked.process.returncode == 0
    with Child(child('print(json.dumps({"error": [1]}))')) as asked, pytest.raises(RuleError, match=r"\[1\]"):
        asked.ask({})
    with Child(child("sys.exit(0)")) as asked:
        for _ in range(2):
            with pytest.raises(Ended):
                asked.ask({})
    assert issubclass(Ended, BadInput)
