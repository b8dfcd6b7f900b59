"""`gemma3-ref quantize`: write a checkpoint in a format of few bits."""

from pathlib import Path

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, print_json

ABOUT = About(
    "quantize",
    "write weights as int4, q4_0, q8_0 or sfp8, to see what they lose",
    "",
    ("gemma3-ref quantize --weights tiny --format int4 -o tiny-int4",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [json_flag()])
    parser.add_argument("--weights", default="270m", metavar="W", help="as for the other commands")
    parser.add_argument(
        "--format", required=True, metavar="F", help="int4, q4_0, q8_0 (GGUF, also for llama.cpp), sfp8"
    )
    parser.add_argument(
        "--keep-embedding",
        action="store_true",
        help="leave embedding and head as they are; codes that the target cannot hold (in a folder: of another "
        "format; in a GGUF: int4, sfp8) become float32, 4 bytes a value",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="an empty or new folder")


def run(args) -> int:
    """Quantise and write, then say what to give to --weights."""
    from ref.quant.write import quantize
    from ref.weights.resolve import load

    written = quantize(load(args.weights), args.format, args.out, args.keep_embedding)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    if args.json:
        print_json({"weights": str(written), "format": args.format.upper(), "bytes": size})
    else:
        print(f"--weights {written}   {size / 1e6:.1f} MB")
    return FINE
