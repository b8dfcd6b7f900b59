"""Capture the real 270M in every stack that can be imported, clean and with one mistake planted, and judge it.

python tests/bench/doors.py [--only GLOB ...] [--json FILE] [--again]   such as --only 'mlx/*' 'litgpt/6/clean'
python tests/bench/doors.py --list                                      the names; and what is not here, with its pip
python tests/bench/doors.py --json FILE --table                         the table of what FILE has; nothing is run

Each dump is made as docs/getting-a-dump.md says: its snippet is run, or its command. What FILE has already is not run
again, so that one file takes the runs of several environments: no environment holds every stack. A clean dump must
match; a planted mistake must be the one cause that is named, at the tap where it is. Floors are the worst, of an
operation alone and with what it inherits.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.clean import judged  # noqa: E402
from bench.doors.all_doors import DOORS  # noqa: E402
from bench.doors.door import Door  # noqa: E402
from bench.doors.table import table  # noqa: E402
from bench.field.real import encoded  # noqa: E402

PROMPTS = {6: "france", 640: "long"}  # tokens: the text; the window is 512


class Run(NamedTuple):
    """One dump of one door."""

    door: Door
    tokens: int
    planted: bool

    @property
    def name(self) -> str:
        """Return what `--only` matches."""
        return f"{self.door.name}/{self.tokens}/{'planted' if self.planted else 'clean'}"

    def done(self) -> dict[str, Any]:
        """Capture and judge; return what the table needs."""
        start, before = time.perf_counter(), Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)  # snippets write `dump` where they are
            try:
                self.door.write(encoded(PROMPTS[self.tokens]), self.planted)
                captured = time.perf_counter() - start
                line = judged(self.name, "dump", "270m")
            finally:
                os.chdir(before)
        del line["taps"]
        line |= {"door": self.door.name, "versions": self.door.versions(), "tokens": self.tokens}
        line |= {"planted": self.planted, "captured": round(captured, 1)}
        return line | {"good": self._good(line)}

    def _good(self, line: dict[str, Any]) -> bool:
        if not self.planted:
            return line["verdict"] == "match"
        found = line["verdict"] == "bug" and line["first"]["tap"] == self.door.tap
        return found and line["named"] == [self.door.named]


def runs(globs: list[str]) -> Iterator[Run]:
    """Yield what is asked for; of stacks that are not here, what to install, on stderr."""
    for door in DOORS:
        own = [Run(door, tokens, planted) for tokens in PROMPTS for planted in (False, True)]
        own = [run for run in own if any(fnmatch(run.name, glob) for glob in globs)]
        if own and door.missing():
            print(f"{door.name:<14}skipped: no {door.missing()} here: pip install {door.install}", file=sys.stderr)
        else:
            yield from own


def run_all(todo: list[Run], lines: dict[str, dict[str, Any]], out: Path | None, again: bool) -> None:
    """Run one after the other; each is in the file when it is done."""
    for run in todo:
        key = f"{run.name} {run.door.versions()}"
        if key in lines and not again:
            continue
        lines[key] = line = run.done()
        first = line["first"]["tap"] if line["first"] else ""
        worst = f"{line['local']['floors']:.2f} {line['inherited']['floors']:.2f} floors"
        times = f"{line['captured']:.0f} + {line['judging']:.0f} s"
        print(f"{run.name:<26}{line['verdict']:<8}{worst} {first} {line['named']} {times}", flush=True)
        if not line["good"]:
            print(f"    wanted {run.door.named + ' at ' + run.door.tap if run.planted else 'match'}", flush=True)
        if out:  # another environment may have written to it meanwhile
            lines |= read(out) | {key: line}
            out.write_text(json.dumps(lines, indent=1))


def read(path: Path | None) -> dict[str, dict[str, Any]]:
    """Return what was run before, by name and versions."""
    return json.loads(path.read_text()) if path and path.exists() else {}


def main(argv: list[str]) -> int:
    """Run what is asked for and not there yet; the table comes last. Returns 1 where one is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="runs whose name matches one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was run before, and is run now")
    parser.add_argument("--again", action="store_true", help="also what FILE has")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--table", action="store_true", help="print the table of FILE alone")
    args = parser.parse_args(argv)
    lines = read(args.json)
    todo = [] if args.table else list(runs(args.only))
    if args.list:
        print("\n".join(run.name for run in todo))
        return 0
    run_all(todo, lines, args.json, args.again)
    print(table(DOORS, lines.values()))
    return int(not all(line["good"] for line in lines.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
