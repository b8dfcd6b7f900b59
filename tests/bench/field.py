"""Plant mistakes of the field, with numbers drawn at random, into transformers, and judge each. It takes hours.

python tests/bench/field.py [--subject tiny|270m] [--dtype float32|bfloat16] [--only GLOB ...] [--seed N] [--json FILE]
python tests/bench/field.py --twins      correct ports in another basis: none may be called a bug
python tests/bench/field.py --three N    N draws of three independent mistakes in one model
python tests/bench/field.py --list       the names

A line for each miss says what was wanted and got; the table comes last. Caught: the verdict is bug. Placed: the first
tap is the operation's. Named: a cause has an accepted name. Exact: and its parameters. Others: causes that were not
planted are named.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.field_cases.all_cases import CASES, TWINS  # noqa: E402
from bench.field_cases.run import Line, run_case, run_three, run_twin  # noqa: E402
from bench.field_cases.subject import Subject, subject  # noqa: E402

COLUMNS = {
    "planted": ("caught", "placed", "named", "exact", "others"),
    "twin": ("matched", "told"),
    "three": ("caught", "placed", "named", "exact", "others", "proven"),
}


def print_table(lines: list[Line]) -> None:
    """Print counts by subject and dtype."""
    for kind, columns in COLUMNS.items():
        some = [line for line in lines if line["kind"] == kind]
        for name, dtype in sorted({(line["subject"], line["dtype"]) for line in some}):
            own = [line for line in some if (line["subject"], line["dtype"]) == (name, dtype)]
            counts = ", ".join(f"{sum(bool(line[word]) for line in own)} {word}" for word in columns)
            ratios = [line["of_clean"] for line in own if "of_clean" in line]
            times = f"; judged in {median(ratios):.2f}x the time of a clean dump" if ratios else ""
            print(f"{kind:<8}{name:<6}{dtype:<9} {len(own):>3}: {counts}{times}")
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
    parser.add_argument("--twins", action="store_true", help="correct ports in another basis")
    parser.add_argument("--three", type=int, metavar="N", help="N draws of three mistakes at once")
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


def jobs_of(args: argparse.Namespace) -> Iterator[tuple[str, str, str, Callable[[Subject], Line]]]:
    """Yield (subject, dtype, name, what to run)."""
    for name in args.subject:
        for dtype in args.dtype:
            fit = lambda one: name in one.subjects and any(fnmatch(one.name, glob) for glob in args.only)  # noqa: B023, E731
            if args.three is not None:
                for number in range(args.three):
                    yield name, dtype, f"draw {number}", lambda on, number=number: run_three(on, number, args.seed)
            elif args.twins:
                for one in filter(fit, TWINS.values()):
                    yield name, dtype, one.name, lambda on, one=one: run_twin(on, one, args.seed)
            else:
                for one in filter(fit, CASES.values()):
                    if dtype in one.dtypes:
                        yield name, dtype, one.name, lambda on, one=one: run_case(on, one, args.seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
