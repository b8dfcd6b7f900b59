"""Measure time and memory, beside other implementations or another checkout: medians of alternating runs, and ratios.

    python -m tests.bench --list
    python -m tests.bench 'prefill-512-*' 'decode-*/float32' --against llama.cpp --llama-python PATH
    python -m tests.bench --beside FOLDER compare-float32
    python -m tests.bench --json > run.json;  python -m tests.bench --write --from run.json

A ROW is a name or a shell pattern; with `/FORM` of one form of the weights: file (in the 270M Q4_K_M), q8_0,
bfloat16 or float32.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from .all_rows import all_rows
from .environment import ROOT, cores
from .row import FORMS, PEERS, Options, chosen
from .run import run_all, together
from .say import as_page, as_text

PAGE, PICTURE = ROOT / "tests/bench/RESULTS.md", ROOT / "docs/growth.svg"


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="all, if none is named")
    add("--against", default=",".join(PEERS), metavar="NAMES", help="%(default)s; '' for none")
    add("--beside", type=Path, metavar="FOLDER", help="another checkout of this project, which does the same work")
    add("--llama-python", default="", metavar="PATH", help="a Python that has llama-cpp-python; this one if not given")
    add("--model", default="270m", metavar="W", help="weights of the text rows, as `--weights` takes them")
    add("--held-as", default=",".join(FORMS), metavar="FORMS", help="%(default)s")
    add("--rounds", type=int, default=5, metavar="N", help="%(default)s, behind one that does not count")
    add("--threads", type=int, default=cores(), metavar="N", help="of every process; %(default)s here")
    add("--longest", type=int, default=131_072, metavar="T", help="of the rows of growth; %(default)s")
    add("--files", type=Path, metavar="FOLDER", help="where files for others are kept; by default they are removed")
    add("--json", action="store_true", help="print one object instead of lines")
    add("--write", action="store_true", help="write tests/bench/RESULTS.md and docs/growth.svg")
    add("--from", nargs="+", type=Path, default=[], dest="from_files", metavar="FILE", help="of --json; nothing is run")
    add("--list", action="store_true", help="print the rows")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    given = sys.argv[1:] if arguments is None else arguments
    args = parsed(given)
    options = Options(
        model=args.model,
        forms=[one for one in FORMS if one in args.held_as.split(",")],
        against=[one for one in args.against.split(",") if one],
        beside=args.beside and args.beside.resolve(),
        llama_python=args.llama_python,
        rounds=args.rounds,
        threads=args.threads,
        longest=args.longest,
    )
    if wrong := [one for one in options.against if one not in PEERS]:
        raise SystemExit(f"--against: wanted {', '.join(PEERS)}, got {', '.join(wrong)}")
    if min(options.rounds, options.threads) < 1:
        raise SystemExit(f"--rounds, --threads: wanted 1 or more, got {options.rounds}, {options.threads}")
    rows = chosen(all_rows(options), args.rows, options)
    if not rows:
        raise SystemExit("no row has this name: --list prints them")
    if args.list:
        print("\n".join(f"{row.full_name:<28} {row.what}" for row in rows))
        return
    out = sys.stderr if args.json else sys.stdout

    def each(run, row):
        print(as_text(row), file=out, flush=True)
        if args.write:
            write(run)

    if args.from_files:
        run = together([json.loads(file.read_text()) for file in args.from_files])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            run = run_all(rows, options, args.files or Path(temporary), each, out, given)
    if args.json:
        print(json.dumps(run, indent=1))
    if args.write:
        write(run)


def write(run: dict) -> None:
    """Write the page, and the picture where the run has rows of growth."""
    from .growth_plot import draw

    growth = [row for row in run["rows"] if row["row"].startswith("growth-") and row["entries"]]
    if growth:
        draw(growth, PICTURE)
    PAGE.write_text(as_page(run, "../../docs/growth.svg" if growth else ""))


if __name__ == "__main__":
    main()
