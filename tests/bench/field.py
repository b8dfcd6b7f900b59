"""Plant mistakes of the field, with numbers drawn at random, into transformers, and judge each. It takes hours.

python tests/bench/field.py [--subject tiny|270m] [--dtype float32|bfloat16] [--only GLOB ...] [--seed N] [--json FILE]
python tests/bench/field.py --list       the names

A line for each miss says what was wanted and got; the table comes last. Caught: the verdict is bug. Placed: the first
tap is the operation's. Named: a cause has an accepted name. Exact: and its parameters.
"""

import argparse
import json
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "bench")]

import ref  # isort: skip  # noqa: F401, E402  before torch: it sets how threads wait
from field_cases.all_cases import CASES  # noqa: E402
from field_cases.case import Case  # noqa: E402
from field_cases.score import in_words, said, score  # noqa: E402
from field_cases.subject import NoDraw, Subject, draw, subject  # noqa: E402

from ref import compare  # noqa: E402

Line = dict[str, Any]


def run_case(one: Subject, case: Case, seed: int) -> Line:
    """Plant a mistake, judge the dump and score the report; print what it missed."""
    start = time.perf_counter()
    line: Line = {"kind": "planted", "name": case.name, "subject": one.name, "dtype": one.dtype}
    with tempfile.TemporaryDirectory() as temporary:
        try:
            drawn = draw(one, case, str(seed), lambda attempt: Path(temporary) / str(attempt))
        except NoDraw as reason:
            print(f"{shown(line)} not planted: {reason}", flush=True)
            return line | {"kind": "not planted", "why": str(reason)}
        judging = time.perf_counter()
        report = compare(Path(temporary) / str(drawn.redrawn), loaded=one.loaded)
    scored = score(report, drawn.planted)
    line |= scored._asdict() | {"drawn": drawn.planted.drawn, "moved": drawn.found.moved, "redrawn": drawn.redrawn}
    line |= {"wanted": f"{drawn.found.tap}: {in_words(drawn.planted.answers)}", "got": said(report)}
    line |= {"judging": time.perf_counter() - judging, "seconds": time.perf_counter() - start}
    print_planted(line)
    return line


def shown(line: Line) -> str:
    """Return the head of a line."""
    return f"{line['subject']:<5}{line['dtype']:<9}{line['name']:<32}"


def print_planted(line: Line) -> None:
    """Print a case; of a miss what was wanted, too."""
    words = " ".join(word if line[word] else f"not {word}" for word in ("caught", "placed", "named", "exact"))
    again = f", redrawn {line['redrawn']} times" if line["redrawn"] else ""
    print(f"{shown(line)}{line['seconds']:5.0f} s  {words}{again}", flush=True)
    if not line["exact"] or not line["placed"]:
        print(f"      wanted {line['wanted']} ({line['drawn']})\n      got {line['got']}", flush=True)


COLUMNS = {
    "planted": ("caught", "placed", "named", "exact"),
}


def print_table(lines: list[Line]) -> None:
    """Print counts by subject and dtype."""
    for kind, columns in COLUMNS.items():
        some = [line for line in lines if line["kind"] == kind]
        for name, dtype in sorted({(line["subject"], line["dtype"]) for line in some}):
            own = [line for line in some if (line["subject"], line["dtype"]) == (name, dtype)]
            counts = ", ".join(f"{sum(line[word] for line in own)} {word}" for word in columns)
            print(f"{kind:<8}{name:<6}{dtype:<9} {len(own):>3}: {counts}")
    left = sum(line["kind"] == "not planted" for line in lines)
    if left:
        print(f"{left} not planted: their draws stay within rounding")


def main(argv: list[str]) -> int:
    """Plant and judge what is asked for; the table comes last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", nargs="+", default=["tiny", "270m"], choices=["tiny", "270m"])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="cases whose name matches one")
    parser.add_argument("--seed", type=int, default=0, help="of the numbers and layers")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    jobs = list(jobs_of(args))
    if args.list:
        print("\n".join(f"{name:<6}{dtype:<9}{what}" for name, dtype, what, _ in jobs), f"\n{len(jobs)} runs")
        return 0
    lines = []
    for name, dtype, _, run in jobs:
        lines.append(run(subject(name, dtype)))
        if args.json:
            args.json.write_text(json.dumps(lines, indent=1))
    print_table(lines)
    return int(not all(line.get("exact", line.get("matched", True)) for line in lines))


def jobs_of(args: argparse.Namespace):
    """Yield (subject, dtype, name, what to run)."""
    for name in args.subject:
        for dtype in args.dtype:
            for one in CASES.values():
                if name in one.subjects and dtype in one.dtypes and any(fnmatch(one.name, glob) for glob in args.only):
                    yield name, dtype, one.name, lambda on, one=one: run_case(on, one, args.seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
