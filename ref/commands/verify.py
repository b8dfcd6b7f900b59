"""`gemma3-ref verify`: run the weights over the golden cases and say, tap by tap, how far from truth they are."""

import time
from pathlib import Path

from ref.commands import BUG, FINE, UNDETERMINED
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, load_weights, note, print_json, run_settings, weights_flags
from ref.errors import wanted

ABOUT = About(
    "verify",
    "check the reference itself against the goldens of other implementations",
    "For each tap: its distance from the truth in multiples of the distance that correct float32 runs show.",
    ("gemma3-ref verify --weights tiny", "gemma3-ref verify --weights 270m --dtype float64 --json"),
    (FINE, BUG, UNDETERMINED),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [weights_flags(), json_flag()])
    group = parser.add_argument_group("what is run")
    group.add_argument("--case", metavar="ID", help="only cases whose id contains this")
    group.add_argument("--golden", type=Path, metavar="DIR", help="the goldens' folder; default: those that came along")
    group.add_argument("--ops", choices=("kernel", "definition"), default="kernel", help="which set of ops runs")


def run(args) -> int:
    """Run every case tapped and untapped, then greedy texts and official facts; print one line per tap group."""
    from ref.golden_files.verify_all import run_suite
    from ref.ops import DEFINITION, KERNEL
    from ref.report.text_verify import render_verify

    start = time.perf_counter()
    if args.held_as == "bfloat16":
        raise wanted("--held-as", "verify", "file or float32: the goldens are of the weights as they are", "bfloat16")
    if args.adapter:
        raise wanted("--adapter", "verify", "none: the goldens are of the weights as they are", args.adapter)
    loaded = load_weights(args)
    how = run_settings(args)._replace(ops=KERNEL if args.ops == "kernel" else DEFINITION)
    names = ["tiny", "tiny-long", "270m"] if args.weights == "270m" else [args.weights]
    results = [run_suite(loaded if name == args.weights else None, name, how, args.case, args.golden) for name in names]
    mine = results[-1]
    if not (mine.cases or mine.facts or (args.case and any(result.cases for result in results))):
        make = f"some (gemma3-ref golden make --weights {args.weights})"
        raise wanted("golden cases", f"--weights {args.weights}", make, f"none matching {args.case or mine.weights}")
    report = summarise([result for result in results if result.cases or result.facts], loaded)
    if args.json:
        print_json(report)
    else:
        print(render_verify(report))
        note(f"{time.perf_counter() - start:.0f} s")
    return {"match": FINE, "bug": BUG, "undetermined": UNDETERMINED}[report["verdict"]]


def summarise(results, loaded) -> dict:
    """Make the report: see golden/schema/report.schema.json."""
    from ref.golden_files.report_format import headed
    from ref.golden_files.verify_all import COVERAGE

    taps, first = [], None
    for result in results:
        taps += [_row(one, result.weights) for one in result.groups.values()]
        # of all layers and passes; the first group's worst would be where an error has grown, not where it starts
        bugs = [one.first for one in result.groups.values() if one.first]
        first = first or (_place(min(bugs)[1], result.weights) if bugs else None)
    texts = {name: good for result in results for name, good in result.texts.items()}
    facts = [fact._asdict() for result in results for fact in result.facts]
    # a published text is loose evidence: alone, or against us, it decides nothing
    open_question = any(fact["verdict"] == "differs" for fact in facts) or not any(result.cases for result in results)
    content = {
        "verdict": "bug" if first or not all(texts.values()) else "undetermined" if open_question else "match",
        "first": first,
        "taps": taps,
        "suites": [{"weights": one.weights, "dtype": one.dtype, "cases": one.cases} for one in results],
        "texts": texts,
        "official": {"run": facts, "not_run": results[-1].not_run},
        "diagnosis": [],
        "coverage": [line for result in results for line in COVERAGE.get(result.weights, [])],
        "weights": {"name": loaded.name, "held_as": loaded.held_as, "tensors": loaded.report.used},
    }
    return headed("verify", content)


def _row(one, weights: str) -> dict:
    """Return a row of the report's `taps`: a group, by its worst tap."""
    worst = one.worst
    numbers = {"local": None, "inherited": worst.error, "floor": worst.floor, "inherited_ratio": worst.ratio}
    row = {"group": one.group, "verdict": one.verdict, **numbers, "count": one.count}
    return row | {"worst": _place(worst, weights)}


def _place(one, weights: str) -> dict:
    """Say where a finding is."""
    from ref.model.taps import layer_of

    return {"tap": one.tap, "layer": layer_of(one.tap), "pass": one.number, "case": one.case, "weights": weights}
