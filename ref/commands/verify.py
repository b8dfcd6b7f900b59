"""`gemma3-ref verify`: run the weights over the golden cases and say, tap by tap, how far from truth they are."""

import time
from pathlib import Path

from ref.commands import BUG, FINE, UNDETERMINED
from ref.commands.shared import json_flag, load_weights, note, print_json, run_settings, weights_flags
from ref.errors import wanted


def add(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "verify",
        parents=[weights_flags(), json_flag()],
        help="compare with the witness's goldens, tap by tap",
    )
    parser.add_argument("--case", metavar="ID", help="only cases whose id contains this")
    parser.add_argument(
        "--golden", type=Path, metavar="DIR", help="the goldens' folder; default: those that came along"
    )
    parser.add_argument("--ops", choices=("kernel", "definition"), default="kernel", help="which set of ops runs")
    parser.set_defaults(run=run)


def run(args) -> int:
    """Run every case tapped and untapped, then greedy texts and official facts; print one line a tap group."""
    from ref.golden_files.verify_all import run_suite
    from ref.ops import DEFINITION, KERNEL

    start = time.perf_counter()
    if args.held_as == "bfloat16":
        raise wanted("--held-as", "verify", "file or float32: the goldens are of the weights as they are", "bfloat16")
    loaded = load_weights(args)
    how = run_settings(args)._replace(ops=KERNEL if args.ops == "kernel" else DEFINITION)
    names = ["tiny", "tiny-long", "270m"] if args.weights == "270m" else [args.weights]
    results = [run_suite(loaded if name == args.weights else None, name, how, args.case, args.golden) for name in names]
    mine = results[-1]
    if not (mine.cases or mine.facts or (args.case and any(result.cases for result in results))):
        make = f"some (gemma3-ref golden make --weights {args.weights})"
        raise wanted("golden cases", f"--weights {args.weights}", make, f"none matching {args.case or mine.weights}")
    results = [result for result in results if result.cases or result.facts]
    report = summarise(results, loaded)
    if args.json:
        print_json(report)
    else:
        show(results, report)
        note(f"{time.perf_counter() - start:.0f} s")
    return {"match": FINE, "bug": BUG, "undetermined": UNDETERMINED}[report["verdict"]]


def summarise(results, loaded) -> dict:
    """Put the findings into the keys that programs rely on."""
    from ref.golden_files.verify_all import COVERAGE

    taps, first = [], None
    for result in results:
        for group, row in result.groups.items():
            where = place(row["worst"], result.weights)
            numbers = {"local": None, "inherited": row["error"], "floor": row["floor"], "ratio": row["ratio"]}
            taps.append({"tap": group, "verdict": row["verdict"], **numbers, "count": row["count"], "worst": where})
        # of all layers and passes; the first group's worst would be where an error has grown, not where it starts
        bugs = [row["first"] for row in result.groups.values() if row["first"]]
        first = first or (place(min(bugs)[1], result.weights) if bugs else None)
    texts = {name: good for result in results for name, good in result.texts.items()}
    facts = [fact._asdict() for result in results for fact in result.facts]
    # a published text is loose evidence: alone, or against us, it decides nothing
    open_question = any(fact["verdict"] == "differs" for fact in facts) or not any(result.cases for result in results)
    return {
        "verdict": "bug" if first or not all(texts.values()) else "undetermined" if open_question else "match",
        "first": first,
        "taps": taps,
        "texts": texts,
        "official": {"run": facts, "not_run": results[-1].not_run},
        "diagnosis": [],
        "coverage": [line for result in results for line in COVERAGE.get(result.weights, [])],
        "weights": {"name": loaded.name, "held_as": loaded.held_as, "tensors": loaded.report.used},
    }


def place(one, weights: str) -> dict:
    """Say where a finding is."""
    from ref.model.taps import layer_of

    return {"tap": one.tap, "layer": layer_of(one.tap), "pass": one.number, "case": one.case, "weights": weights}


def show(results, report) -> None:
    """Print the table, then texts, official facts and coverage; the verdict, and the first divergence, come last."""
    for result in results:
        print(f"{result.weights}: {', '.join(result.cases)}")
        unit = "1e-10" if result.dtype == "float64" else "floor"
        print(f"  {'tap':<32}{'distance':>11}{unit:>11}{'x ' + unit:>10}   {'verdict':<8}{'values':>7}  worst at")
        for group, row in result.groups.items():
            worst = row["worst"]
            floor = f"{row['floor']:.1e}" if row["floor"] else "exact"
            at = f"{worst.case} pass {worst.number} {worst.tap if '*' in group else ''}".rstrip()
            numbers = f"{row['error']:>11.1e}{floor:>11}{row['ratio']:>10.2f}"
            print(f"  {group:<32}{numbers}   {row['verdict']:<8}{row['count']:>7}  {at}")
    for name, good in report["texts"].items():
        print(f"  {'greedy ' + name:<54}{'':>10}   {'match' if good else 'bug'}")
    for fact in report["official"]["run"]:
        print(f"  official {fact['id']}: {fact['verdict']}: {fact['detail']}")
    if left := report["official"]["not_run"]:
        counts = ", ".join(f"{checkpoint} {count}" for checkpoint, count in left.items())
        print(f"  published facts not run, being of other weights or images: {counts}")
    for line in report["coverage"]:
        print(f"  {line}")
    weights = report["weights"]
    print(f"  weights {weights['name']}: {weights['tensors']} tensors, all used, held as {weights['held_as']}")
    first = report["first"]
    tail = f", first at {first['weights']} {first['case']} pass {first['pass']} {first['tap']}" if first else ""
    print(f"verdict: {report['verdict']}{tail}")
