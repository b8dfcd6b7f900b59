"""Many dumps by processes: in their order, the same as one after the other, and a process that dies costs nothing."""

import argparse
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from support.command_line import main

from ref.commands.many_workers import by_workers
from ref.errors import BadInput

GOLDEN = Path(__file__).parents[2] / "golden" / "dumps"


def dies_once(args, path):
    """Judge as a test does: by the name alone; at one name end the process the first time."""
    flag = Path(args.flag)
    if path.endswith("2") and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if path.endswith("5"):
        raise BadInput(f"{path}: wanted a dump, got none")
    return {"name": path, "threads": args.quiet}, {}


def judged(tmp_path, workers):
    args = argparse.Namespace(workers=workers, flag=str(tmp_path / "died"), quiet=False, run=dies_once)
    paths = [Path(f"d{i}") for i in range(8)]
    found = []
    with by_workers(args, paths, dies_once) as judge:
        for path in paths:
            try:
                found.append(judge(args, str(path))[0]["name"])
            except BadInput as error:
                found.append(str(error))
    return found


def test_a_process_that_dies_costs_nothing_and_what_is_refused_is_refused(tmp_path):
    want = ["d0", "d1", "d2", "d3", "d4", "d5: wanted a dump, got none", "d6", "d7"]
    assert judged(tmp_path, 2) == want
    assert (tmp_path / "died").exists()


def test_without_workers_this_process_judges(tmp_path):
    (tmp_path / "died").touch()
    assert judged(tmp_path, None)[:2] == ["d0", "d1"]


@pytest.mark.parametrize("flag", ["--json", "--all"])
def test_by_processes_many_dumps_say_the_same(tmp_path, capsys, flag):
    for name in ("a", "b"):
        shutil.copytree(GOLDEN / "tiny", tmp_path / "dumps" / name)
    shutil.copytree(GOLDEN / "tiny-bug", tmp_path / "dumps" / "c")
    texts = []
    for workers in ([], ["--workers", "2"]):
        assert main(["compare", str(tmp_path / "dumps"), flag, *workers]) == 1
        texts.append(re.sub(r'"seconds": [0-9.e-]+', "", capsys.readouterr().out))
    assert texts[0] == texts[1]
