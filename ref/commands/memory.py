"""`gemma3-ref memory`: bytes of weights and cache, beside the technical report's table 3."""

from pathlib import Path

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, print_json
from ref.errors import wanted

REPORTED = ("bfloat16", "int4", "q4_0", "sfp8")
MOST_CONTEXT = 2**63 - 1  # tokens; gigabytes are printed as floats, which end somewhere, though counting does not


ABOUT = About(
    "memory",
    "count the bytes of weights and of the KV cache",
    "",
    ("gemma3-ref memory 1b 27b --context 8192",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [json_flag()])
    parser.add_argument("size", nargs="*", help="270m 1b 4b 12b 27b; default: every released size")
    parser.add_argument("--context", type=int, default=32_768, metavar="N", help="tokens in the cache (32768)")
    parser.add_argument(
        "--weights-format",
        action="append",
        metavar="F",
        help="float32 bfloat16 float16 int4 q4_0 q8_0 sfp8 (repeatable); default: those of the report's table that fit",
    )
    parser.add_argument(
        "--kv-format", default="bfloat16", metavar="F", help="float32 bfloat16 float16 int8 q8_0 (bfloat16)"
    )
    parser.add_argument("--all-global", action="store_true", help="every layer keeps every key: no rings")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw KV memory of the first size: .png, .svg or .pdf (extra [plot])"
    )


def run(args) -> int:
    """Print a row for each size and format, and what the report's figures are not."""
    from ref.config import RELEASED, SIZES, find_size
    from ref.quant.memory import NOT_REPRODUCIBLE, fits, memory

    if args.context > MOST_CONTEXT:
        raise wanted("context", "memory", f"at most {MOST_CONTEXT} tokens", args.context)
    names = [find_size(size).name for size in args.size] or RELEASED
    rows = [
        memory(name, args.context, kind, args.kv_format, args.all_global)
        for name in names
        for kind in args.weights_format or [kind for kind in REPORTED if fits(SIZES[name], kind)]
    ]
    kv = rows[0]["kv_format"]
    if args.plot:
        from ref.show.kv_memory import plot_kv_memory, save_figure

        save_figure(plot_kv_memory(names[0], args.context, kv), args.plot)
    if args.json:
        print_json(rows[0] if len(rows) == 1 else rows)
        return FINE
    layers = "all layers global" if args.all_global else "rings in local layers"
    beside = "; (report's figure, difference)" if any(row["report"] for row in rows) else ""
    print(f"context {args.context:,}, cache {kv}, {layers}; GB of 10^9 bytes{beside}")
    print(f"{'':>5} {'format':<9}{'text':>20}{'with vision':>22}{'KV cache':>24}{'sum':>8}")
    for row in rows:
        print(_line(row))
    if any(row["report"] for row in rows):
        print(f"KV: {NOT_REPRODUCIBLE}.")
    return FINE


def _line(row) -> str:
    """Write one row: of each figure of the report also the difference."""
    report, gap = row["report"], row["difference"]
    kv = f"{report['with_kv_gb'] - report['weights_gb']:.1f}" if report else ""

    def cell(key: str, name: str, theirs: str, width: int) -> str:
        beside = f" ({theirs} {gap[name]:+.2f})" if gap else ""
        return f"{row[key] / 1e9:.3f}{beside}".rjust(width)

    weights = str(report["weights_gb"]) if report else ""
    cells = cell("text_bytes", "text", weights, 20) + cell("weights_bytes", "weights", weights, 22)
    cells += cell("kv_bytes", "kv", kv, 24)
    return f"{row['name']:>5} {row['weights_format']:<9}{cells}{row['total_bytes'] / 1e9:>8.2f}"
