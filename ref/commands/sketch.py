"""`gemma3-ref sketch`: make a small dump of a whole one."""

from pathlib import Path

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.output import report_written
from ref.commands.shared import json_flag

ABOUT = About(
    "sketch",
    "make a small dump of a whole one: norms, digests, values at hashed places",
    "What is small enough to be sent. `compare` judges it from the prompt on; `capture --sketch` writes one at once.",
    ("gemma3-ref sketch golden/dumps/270m-bfloat16 -o small",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [json_flag()])
    parser.add_argument("dump", type=Path, metavar="DUMP", help="a folder with dump.json")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="an empty or new folder")
    about = "places of each tensor, at least; default: 2560"
    parser.add_argument("--values", type=int, default=2560, metavar="N", help=about)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the places; default: 0")


def run(args) -> int:
    """Write the small dump."""
    from ref.dump.sketch import sketch

    place = args.out.absolute()
    sketch(args.dump, args.out, values=args.values, seed=args.seed)
    report_written("sketch", place, args.out, args.json)
    return FINE
