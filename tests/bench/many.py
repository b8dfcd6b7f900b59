"""Memory of judging many dumps in one call: `python tests/bench/many.py [-n 1000] [--dump D] [--python]`.

Copies of a small dump are judged with all reports, as `gemma3-ref compare` of a folder does it; what the process
holds is printed every 50. `--python` counts Python's own allocations as well, which takes twice as long.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from ref.cli import build_parser
from ref.commands import compare
from ref.commands.compare_many import dumps_of, run_many
from ref.golden_files.files import golden_root

EVERY = 50


def resident() -> float:
    """Return the megabytes that this process has in memory, mapped files left out; Linux only."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows["RssAnon"].split()[0]) / 1024


def copies(dump: Path, folder: Path, count: int) -> None:
    """Put so many dumps of the same content into a folder; all but the first are links, and take no room."""
    first = folder / "prompt-0000"
    shutil.copytree(dump, first)
    for number in range(1, count):
        one = folder / f"prompt-{number:04d}"
        one.mkdir()
        for file in first.iterdir():
            os.link(file, one / file.name)


def judge_copies(dump: Path, count: int, tell: Callable[[int], None], work: Path, more: list[str]) -> int:
    """Judge copies of a dump in one call.

    Args:
        dump: the dump.
        count: of copies.
        tell: called with the number of those judged, after each.
        work: an empty folder, for the copies and the reports.
        more: of the command line.

    Returns:
        The exit code.
    """
    folder = work / "dumps"
    folder.mkdir()
    copies(dump, folder, count)
    reports = ["--junit", str(work / "report.xml"), "--html", str(work / "index.html"), "--pages", "bad"]
    args = build_parser(["compare"]).parse_args(["compare", str(folder), *reports, *more])
    args.dump = args.other = None
    args.planned, done = {}, 0

    def judge(args, path: str):
        nonlocal done
        tell(done)
        done += 1
        return compare._judge(args, path)

    given = dumps_of(args)
    assert given is not None
    code = run_many(args, given, judge)
    tell(done)
    return code


def main() -> None:
    """Judge, and print a line every 50 dumps on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=1000, help="dumps")
    parser.add_argument("--dump", type=Path, default=golden_root() / "dumps" / "tiny")
    parser.add_argument("--python", action="store_true", help="count Python's own allocations, too")
    given, start = parser.parse_args(), time.perf_counter()
    if given.python:
        tracemalloc.start()

    def tell(done: int) -> None:
        if done % EVERY == 0 or done in (1, 10, given.n):
            own = f"{tracemalloc.get_traced_memory()[0] / 2**20:10.2f} MB of Python" if given.python else ""
            seconds = time.perf_counter() - start
            print(f"{done:5} dumps {resident():8.1f} MB {own} {seconds:7.0f} s", file=sys.stderr)

    with tempfile.TemporaryDirectory() as work:
        sys.exit(judge_copies(given.dump, given.n, tell, Path(work), ["--json"]))


if __name__ == "__main__":
    main()
