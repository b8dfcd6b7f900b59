"""`gemma3-ref params`: exact parameter counts beside the technical report's."""

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, print_json

ABOUT = About(
    "params",
    "count the parameters of each size, next to the figures of the technical report",
    "",
    ("gemma3-ref params 270m 4b",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [json_flag()])
    parser.add_argument("size", nargs="*", help="270m 1b 4b 12b 27b tiny; default: every released size")


def run(args) -> int:
    """Print one row per size, then what differs from the report and why."""
    from ref.config import RELEASED, find_size
    from ref.model.count import count_params

    names = [find_size(size).name for size in args.size] or RELEASED
    rows = [count_params(name) for name in names]
    if args.json:
        print_json(rows[0] if len(rows) == 1 else rows)
        return FINE
    columns = ("embedding", "non_embedding", "vision", "projector", "total")
    print(f"{'size':>5}" + "".join(f"{name:>18}" for name in columns))
    for row in rows:
        print(f"{row['name']:>5}" + "".join(f"{row[name]:>18,}" for name in columns))
        if row["report"]:
            cells = [f"{row['report'].get(name, 0):,} M" if row["report"].get(name) else "" for name in columns]
            print("      report" + f"{cells[0]:>11}" + "".join(f"{cell:>18}" for cell in cells[1:]))
    for row in rows:
        if row["difference"]:
            parts = ", ".join(f"{k} {row['difference'][k]:+,}" for k in ("embedding", "non_embedding", "vision"))
            print(f"{row['name']}: ours minus report: {parts}\n      {row['difference']['explained']}")
    return FINE
