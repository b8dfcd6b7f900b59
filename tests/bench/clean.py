"""Judge clean captures of the field: none may be called a bug. Not a test: all rows take hours.

python tests/bench/clean.py [--only GLOB ...] [--nightly] [--list] [--json FILE]   the rows of tests/bench/field/
python tests/bench/clean.py --planted [--seed N] ...    the same rows, each with one of 20 mistakes in some layer
python tests/bench/clean.py DUMP ...                    dumps of any witness; WEIGHTS=DUMP says whose weights
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.field.all_rows import all_rows  # noqa: E402
from bench.field.row import Missing, Row  # noqa: E402
from ref import compare  # noqa: E402


def judged(name, dump, weights=None, loaded=None) -> dict:
    """Judge one dump; return what the table needs of the report."""
    start = time.perf_counter()
    report = compare(dump, weights, loaded=loaded)
    taps = list(dict.fromkeys(row["tap"] for row in report["taps"]))
    line = {"name": name, "verdict": report["verdict"], "taps": taps, "first": report["first"]}
    for key in ("local_ratio", "inherited_ratio"):
        worst = max(((row[key], row["tap"]) for row in report["taps"] if row[key] is not None), default=(0.0, ""))
        line[key.removesuffix("_ratio")] = {"floors": worst[0], "tap": worst[1]}
    line["judged_as"] = report["policy"]["judged_as"]
    torch = report["policy"].get("torch") or {}
    line["versions"] = " ".join(
        [*report["producer"].values(), *(f"torch {v}" for k, v in torch.items() if k == "version")]
    )
    line["machine"] = torch.get("device", "cpu")
    line["named"] = [d["mutant"] for d in report["diagnosis"] if d["verdict"] in ("named", "tied")]
    return line | {"judging": round(time.perf_counter() - start, 1)}


def printed(line: dict) -> None:
    """Print a line of the table."""
    worst = " ".join(f"{key} {line[key]['floors']:8.2f} {line[key]['tap']:<27}" for key in ("local", "inherited"))
    first = f"first {line['first']['tap']} of pass {line['first']['pass']}" if line["first"] else ""
    first += f", named {', '.join(line['named'])}" if line["named"] else ""
    print(f"{line['name']:<54}{line['verdict']:<13}{len(line['taps']):>4} taps {worst} {first}", flush=True)


def run_row(row: Row, seed: int | None) -> dict:
    """Capture a row, with a mistake where a seed is given, and judge it."""
    mistake = None
    if seed is not None:
        from bench.field.planted import mistake_for

        mistake = mistake_for(row, seed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        loaded = row.write(Path(temporary) / "dump", mistake)
        line = judged(row.name, Path(temporary) / "dump", loaded=loaded)
    line |= {"dtype": row.dtype, "size": row.size, "device": row.device, "counted": row.counted}
    if mistake:
        tap = shown_at(mistake.tap(loaded), line["taps"])
        caught, first = line["verdict"] == "bug", line["first"] and line["first"]["tap"]
        line |= {"mistake": mistake.injection.mutant, "at": tap, "caught": caught, "placed": first == tap}
    return line | {"seconds": round(time.perf_counter() - start, 1)}


def shown_at(tap: str, taps: list[str]) -> str:
    """Return the tap, or what a dump without it shows first: fused attention has neither scores nor probs."""
    return tap if tap in taps else tap.replace("attn.scores", "attn.mix")


def run_rows(rows: list[Row], seed: int | None, out: Path | None) -> list[dict]:
    """Run rows one after the other; what is done is in the file after each."""
    lines = []
    for row in rows:
        try:
            line = run_row(row, seed)
        except Missing as reason:
            print(f"{row.name:<54}{'skipped':<13}{reason}", flush=True)
            continue
        printed(line)
        if seed is not None and not line["placed"]:
            print(
                f"    {line['mistake']} at {line['at']}: {'elsewhere' if line['caught'] else 'not caught'}", flush=True
            )
        lines.append(line)
        if out:
            out.write_text(json.dumps(lines, indent=1))
    return lines


def summary(lines: list[dict], planted: bool) -> None:
    """Print counts by dtype, size and device."""
    counted = [line for line in lines if line["counted"]]
    for key in ("dtype", "size", "device"):
        for value in sorted({line[key] for line in counted}):
            some = [line for line in counted if line[key] == value]
            print(f"  {key:<7}{value:<16}{_counts(some, planted)}")
    print(f"{len(counted)} captures, {len(lines) - len(counted)} more not counted: {_counts(counted, planted)}")


def _counts(lines: list[dict], planted: bool) -> str:
    if planted:
        return (
            f"{len(lines)} planted, {sum(x['caught'] for x in lines)} caught, {sum(x['placed'] for x in lines)} placed"
        )
    words = Counter(line["verdict"] for line in lines)
    worst = max(line["local"]["floors"] for line in lines) if lines else 0.0
    return ", ".join(f"{count} {word}" for word, count in sorted(words.items())) + f"; worst local {worst:.2f} floors"


def main(argv: list[str]) -> int:
    """Judge what is asked for; the sums come last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dumps", nargs="*", help="DUMP or WEIGHTS=DUMP, in the place of rows")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="rows whose name matches one")
    parser.add_argument("--nightly", action="store_true", help="the quick subset, at most five minutes on two cores")
    parser.add_argument("--planted", action="store_true", help="plant a mistake into each")
    parser.add_argument("--seed", type=int, default=0, help="of the mistakes and their layers")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    if args.dumps:
        parts = [one.rpartition("=") for one in args.dumps]
        lines = [judged(Path(dump).name, dump, weights or None) for weights, _, dump in parts]
        for line in lines:
            printed(line)
        return int(any(line["verdict"] != "match" for line in lines))
    rows = [r for r in all_rows() if any(fnmatch(r.name, one) for one in args.only)]
    rows = [r for r in rows if (r.nightly or not args.nightly) and (r.plantable or not args.planted)]
    if args.list:
        print("\n".join(r.name for r in rows), f"\n{len(rows)} rows, {sum(r.counted for r in rows)} counted")
        return 0
    lines = run_rows(rows, args.seed if args.planted else None, args.json)
    summary(lines, args.planted)
    good = (lambda line: line["placed"]) if args.planted else (lambda line: line["verdict"] == "match")
    return int(not all(good(line) for line in lines if line["counted"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
