"""docs/logits-alone.md, followed: its snippet writes what `compare` names a mistake from, its commands parse."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from support.judged import captured
from support.server_json import vllm

from ref.cli import build_parser, main
from ref.dump import read_server_json, server_steps
from ref.mutants import tap_mutants

PAGE = (Path(__file__).resolve().parents[2] / "docs/logits-alone.md").read_text()
[SNIPPET] = re.findall(r"<!-- logits alone -->\n```python\n(.*?)^```", PAGE, re.M | re.S)
COMMANDS = re.findall(r"^gemma3-ref (.*?)(?:  #.*)?$", PAGE, re.M)
IDS = [20 + i % 70 for i in range(19)]


def logits(mistake):
    return captured(tap_mutants()[mistake].rules)["text.logits"][0].astype(np.float32)


@pytest.mark.parametrize("rows", [slice(None), slice(-1, None)], ids=["all tokens", "the last token"])
def test_the_snippet_writes_what_a_mistake_is_named_from(tmp_path, monkeypatch, capsys, rows):
    monkeypatch.chdir(tmp_path)
    exec(SNIPPET, {"my_port": lambda: (IDS, logits("rope_interleaved")[rows])})
    assert main(["compare", "port.npz", "--weights", "tiny"]) == 1
    assert "(rope_interleaved, explains 100 %, " in capsys.readouterr().out.splitlines()[-1]


def test_the_servers_answer_is_judged_with_the_flags_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("answer.json").write_text(json.dumps(vllm(logits("rope_interleaved"), IDS, 0)))
    assert main(["compare", "answer.json", "--weights", "tiny"]) == 1
    assert "(rope_interleaved, explains 100 %, " in capsys.readouterr().out.splitlines()[-1]


def test_the_commands_have_flags_that_there_are():
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        assert build_parser().parse_args(shlex.split(command)).command == "compare"


@pytest.mark.parametrize("field", re.findall(r"`(\w+)`", PAGE.split("| what is read |")[1].split("\n\n")[0]))
def test_the_fields_that_are_read_are_read(field):
    assert f'"{field}"' in "".join(Path(one.__file__).read_text() for one in (read_server_json, server_steps))
