"""Plant mistakes of the field, with numbers drawn at random, into transformers, and judge each. It takes hours.

python tests/bench/field.py [--subject tiny|270m] [--dtype float32|bfloat16] [--only GLOB ...] [--seed N] [--json FILE]
python tests/bench/field.py --twins      correct ports in another basis: none may be called a bug
python tests/bench/field.py --three N    N draws of three independent mistakes in one model
python tests/bench/field.py --list       the names

A line for each miss says what was wanted and got; the table comes last. Caught: the verdict is bug. Placed: the first
tap is the operation's. Named: a cause has an accepted name. Exact: and its parameters.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "bench")]

import ref  # isort: skip  # noqa: F401, E402  before torch: it sets how threads wait
from field_cases.all_cases import CASES  # noqa: E402
from field_cases.case import Case  # noqa: E402
from field_cases.score import in_words, said, score  # noqa: E402
from field_cases.subject import LOGITS, NoDraw, Subject, draw, logits_moved, subject  # noqa: E402
from field_cases.three import draw_three, plant_three  # noqa: E402
from field_cases.twins import Twin  # noqa: E402
from field_cases.twins_folded import TWINS  # noqa: E402

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


def run_twin(one: Subject, twin: Twin, seed: int) -> Line:
    """Change the basis of a model, assert that its logits stay, and judge the dump."""
    start, model = time.perf_counter(), one.copied()
    drawn = twin.change(one.scene(model, twin.prompt, f"{seed} {one.name} {one.dtype} {twin.name}", set()))
    line: Line = {"kind": "twin", "name": twin.name, "subject": one.name, "dtype": one.dtype, "drawn": drawn}
    with tempfile.TemporaryDirectory() as temporary:
        moved = logits_moved(one, twin.prompt, one.write(model, twin.prompt, Path(temporary) / "dump"))
        assert moved < LOGITS[one.dtype], f"{twin.name} moves the logits by {moved:.1e}: it is no twin"
        report = compare(Path(temporary) / "dump", loaded=one.loaded)
    bases = [base["what"] for base in report.get("bases") or ()]
    line |= {"matched": report["verdict"] == "match", "told": bool(bases), "bases": bases, "logits_moved": moved}
    line |= {"got": said(report), "seconds": time.perf_counter() - start}
    words = "match" if line["matched"] else f"{line['got']} ({drawn})"
    print(f"{shown(line)}{line['seconds']:5.0f} s  {words}{''.join(f'; {base}' for base in bases)}", flush=True)
    return line


def run_three(one: Subject, number: int, seed: int) -> Line:
    """Plant three mistakes at once: each must be placed and named, and the proof must say whether that is all."""
    start = time.perf_counter()
    line: Line = {"kind": "three", "name": f"draw {number}", "subject": one.name, "dtype": one.dtype}
    with tempfile.TemporaryDirectory() as temporary:
        alone = Path(temporary) / "alone"
        alone.mkdir()
        drawn = draw_three(one, f"{seed} three {number}", alone)
        plant_three(one, drawn, Path(temporary) / "dump")
        report = compare(Path(temporary) / "dump", loaded=one.loaded)
    scores = [score(report, each.planted, alone=False) for each in drawn]
    line |= {word: all(getattr(each, word) for each in scores) for word in scores[0]._fields}
    proof = report.get("proof") or {}
    line["proven"] = bool(proof) and (proof["verdict"] == "explained") == line["named"]
    line |= {"scores": [each._asdict() for each in scores], "proof": proof.get("says"), "got": said(report)}
    line |= {"wanted": [f"{each.found.tap}: {in_words(each.planted.answers)}" for each in drawn]}
    line["seconds"] = time.perf_counter() - start
    print_three(line)
    return line


def print_three(line: Line) -> None:
    """Print a draw of three."""
    named = sum(each["named"] for each in line["scores"])
    proof = f"{'right' if line['proven'] else 'wrong'}: {line['proof']}" if line["proof"] else "none"
    print(f"{shown(line)}{line['seconds']:5.0f} s  {named} of 3 named; proof {proof}", flush=True)
    for wanted, each in zip(line["wanted"], line["scores"], strict=True):
        if not each["exact"]:
            print(f"      wanted {wanted}; {'' if each['placed'] else 'not '}placed", flush=True)
    if named < len(line["scores"]):
        print(f"      got {line['got']}", flush=True)


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
    "twin": ("matched", "told"),
    "three": ("caught", "placed", "named", "exact", "proven"),
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
