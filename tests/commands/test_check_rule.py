"""`check-rule`: programs in several languages, right and wrong, and children that do not keep to the protocol."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from support.refusing import refusal

import ref.cli
from ref.commands import check_rule
from ref.errors import BadInput
from ref.mutants.visibility import Layout, visible
from ref.ops.pan_and_scan import crop_boxes
from ref.testing.answers import Ended, plain_question, read_mask
from ref.testing.child import Child, RuleError

CROPS_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static double number(const char *line, const char *name) {
  return atof(strchr(strstr(line, name), ':') + 1);
}
int main(void) {
  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    long w = number(line, "width"), h = number(line, "height"), m = number(line, "min_crop");
    long longer = w >= h ? w : h, shorter = w >= h ? h : w, n = 0;
    double ratio = (double)longer / shorter;
    if (ratio ACTIVE number(line, "min_ratio")) {
      n = (long)(ratio + 0.5);
      if (longer / m < n) n = longer / m;
      if (n < 2) n = 2;
      if (n > 4) n = 4;
      if ((longer + n - 1) / n < m || shorter < m) n = 0;
    }
    long step = n ? (longer + n - 1) / n : 0;
    int pad = strstr(line, "pad") != NULL;
    printf("[");
    for (long i = 0; i < n; i++) {
      long a = i * step, b = a + step > longer && !pad ? longer : a + step;
      if (w >= h) printf("%s[0, %ld, %ld, %ld]", i ? ", " : "", a, h, b);
      else printf("%s[%ld, 0, %ld, %ld]", i ? ", " : "", a, b, w);
    }
    puts("]");
    fflush(stdout);
  }
}
"""

VISIBILITY_JS = """
const wider = Number(process.argv[2] || 0);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const c = JSON.parse(line);
  console.log(JSON.stringify(c.soft.map((soft, t) => {
    const i = c.start + t;
    let start = c.first[t], stop = i + 1;
    if (i < start) return [i, i];
    if (c.window !== null) start = Math.max(start, i - c.window + 1 - wider);
    while (soft && stop < c.keys && c.soft[stop - c.start] && c.first[stop - c.start] === c.first[t]) stop++;
    return [start, stop];
  })));
});
"""

CAUSAL_AWK = """
{ match($0, /"start": [0-9]+/); start = substr($0, RSTART + 9, RLENGTH - 9) + 0
  match($0, /"keys": [0-9]+/); keys = substr($0, RSTART + 8, RLENGTH - 8) + 0
  line = ""
  for (t = start; t < keys; t++) {
    row = ""
    for (k = 0; k < keys; k++) row = row (k <= t ? 1 : 0)
    line = line (t > start ? ", " : "") "\\"" row "\\""
  }
  print "[" line "]"; fflush() }
"""

CROPS_PERL = r"""
$| = 1;
while (<STDIN>) {
  my ($w) = /"width": (\d+)/; my ($h) = /"height": (\d+)/;
  my ($long, $short) = $w >= $h ? ($w, $h) : ($h, $w);
  my $n = 0;
  if (5 * $long >= 6 * $short) {
    $n = int($long / $short + 0.5);
    $n = int($long / 256) if int($long / 256) < $n;
    $n = 2 if $n < 2; $n = 4 if $n > 4;
    $n = 0 if int(($long + $n - 1) / $n) < 256 || $short < 256;
  }
  my $s = $n ? int(($long + $n - 1) / $n) : 0;
  print "[", join(", ", map {
    my ($a, $b) = ($_ * $s, $_ * $s + $s > $long ? $long : $_ * $s + $s);
    $w >= $h ? "[0, $a, $h, $b]" : "[$a, 0, $b, $w]" } 0 .. $n - 1), "]\n";
}
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    if check_rule not in ref.cli.COMMANDS:
        monkeypatch.setattr(ref.cli, "COMMANDS", (*ref.cli.COMMANDS, check_rule))


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


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


def check(capsys, *arguments, code):
    assert ref.cli.main(["check-rule", *arguments]) == code
    return capsys.readouterr()


RIGHT = """
from ref.ops.pan_and_scan import crop_boxes
def crops(c):
    return crop_boxes(c["height"], c["width"], c["min_ratio"], c["min_crop"], c["max_crops"], True).tolist()
"""


# --- languages ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    (folder / "crops.c").write_text(CROPS_C)
    for name, active in (("right", ">="), ("wrong", ">")):
        subprocess.run(["gcc", f"-DACTIVE={active}", folder / "crops.c", "-o", folder / name], check=True)
    return folder


@needs("gcc")
def test_crops_in_c(capsys, compiled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = check(capsys, "crops", "--exec", str(compiled / "right"), code=0)
    assert said.out == ""
    assert said.err.startswith("crops: all ")
    check(capsys, "crops", "--policy", "gemma_pytorch", "--exec", str(compiled / "right"), code=0)
    out = check(capsys, "crops", "--exec", str(compiled / "wrong"), code=1).out
    assert out.startswith("pan and scan: wrong on ")
    assert "  516 x 430 pixels\n" in out
    assert list(tmp_path.iterdir()) == []  # no folder of Hypothesis is left behind


@needs("gcc")
def test_json_of_a_counterexample(capsys, compiled):
    said = check(capsys, "crops", "--json", "--exec", str(compiled / "wrong"), code=1)
    report = json.loads(said.out)
    assert said.err == ""
    assert report["verdict"] == "bug"
    assert report["case"] == {
        "width": 516, "height": 430, "min_ratio": 1.2, "min_crop": 256, "max_crops": 4, "past_edge": "clip",
    }  # fmt: skip
    assert report["expected"] == [[0, 0, 430, 258], [0, 258, 430, 516]]
    assert report["got"] == []
    assert {"mutant", "mutants", "cases", "wrong", "problem"} <= set(report)


@needs("node")
def test_visibility_in_javascript(capsys, tmp_path):
    (tmp_path / "rule.js").write_text(VISIBILITY_JS)
    check(capsys, "visibility", "--exec", "node", str(tmp_path / "rule.js"), code=0)
    report = json.loads(
        check(capsys, "visibility", "--json", "--exec", "node", str(tmp_path / "rule.js"), "1", code=1).out
    )
    assert report["mutant"] == "window_plus_one"
    assert [m["name"] for m in report["mutants"]] == ["window_plus_one"]
    assert report["case"]["window"] == 2
    assert report["expected"] == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert report["got"] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


@needs("mawk")
def test_a_causal_mask_in_awk(capsys, tmp_path):
    (tmp_path / "rule.awk").write_text(CAUSAL_AWK)
    program = ["--exec", "mawk", "-W", "interactive", "-f", str(tmp_path / "rule.awk")]
    without = [word for name in ("images", "pads", "packed", "local") for word in ("--without", name)]
    said = check(capsys, "visibility", *without, *program, code=0)
    assert said.err.endswith("cases are right; without images, local, packed, pads\n")
    assert "as if: image_causal: " in check(capsys, "visibility", *without[2:], *program, code=1).out
    report = json.loads(check(capsys, "visibility", "--json", *without, *program, code=0).out)
    assert (report["verdict"], report["case"], report["mutant"]) == ("match", None, None)


@needs("perl")
def test_crops_in_perl(capsys, tmp_path):
    (tmp_path / "rule.pl").write_text(CROPS_PERL)
    check(capsys, "crops", "--exec", "perl", str(tmp_path / "rule.pl"), code=0)
    out = check(capsys, "crops", "--policy", "gemma_pytorch", "--exec", "perl", str(tmp_path / "rule.pl"), code=1).out
    assert "wrong on" in out


def test_a_right_child_in_python_and_one_that_says_why_it_fails(capsys, child):
    check(capsys, "crops", "--exec", *child("print(crops(case))", RIGHT), code=0)
    body = 'print(json.dumps({"error": "too wide"} if case["width"] >= 2000 else crops(case)))'
    out = check(capsys, "crops", "--exec", *child(body, RIGHT), code=1).out
    assert "it raised RuleError: too wide" in out
    assert '"width": 20' in out  # shrunk


def test_an_answer_of_another_shape_is_a_wrong_answer(capsys, child):
    report = json.loads(check(capsys, "crops", "--json", "--exec", *child("print([1, 2, 3])"), code=1).out)
    assert report["got"] is None
    assert report["problem"] == "gave shape [3], wanted boxes [n, 4]"


# --- children that do not keep to it --------------------------------------------------------------------------------

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
