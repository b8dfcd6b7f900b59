"""`gemma3-ref trace`: write every tap of a run as a dump."""

from pathlib import Path

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.images import image_flags, read_multimodal
from ref.commands.output import report_written
from ref.commands.shared import (
    json_flag,
    load_weights,
    run_settings,
    text_flags,
    weights_flags,
)

ABOUT = About(
    "trace",
    "write a dump of every tap of the reference's own run",
    "A dump is what `compare` judges and other tools can read.",
    ("gemma3-ref trace --weights tiny --ids 2,33,5,80 -o dump",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [text_flags(), image_flags(), weights_flags(), json_flag()])
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="an empty or new folder")
    parser.add_argument(
        "--taps", action="append", metavar="PATTERN", help="only these, such as 'text.layer.5.*' (repeatable)"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=0, metavar="N", help="greedy cached steps after the prompt"
    )


def run(args) -> int:
    """Run each prompt (one pass per prompt; with --max-new-tokens a prefill and its steps) and write the dump."""
    from ref.dump.trace import default_taps, trace
    from ref.errors import wanted

    if args.max_new_tokens < 0:
        raise wanted("max-new-tokens", "trace", "0 or more", args.max_new_tokens)
    loaded = load_weights(args)
    prompts, images = read_multimodal(args, loaded)
    patterns = args.taps or default_taps(loaded, images)
    place = args.out.absolute()
    trace(loaded, prompts, args.out, run_settings(args), patterns, args.max_new_tokens, images)
    report_written("trace", place, args.out, args.json)
    return FINE
