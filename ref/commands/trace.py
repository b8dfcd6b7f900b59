"""`gemma3-ref trace`: write every tap of a run as a version-1 dump."""

from pathlib import Path

from ref.commands import FINE
from ref.commands.images import image_flags, read_multimodal
from ref.commands.shared import (
    json_flag,
    load_weights,
    note,
    print_json,
    run_settings,
    text_flags,
    weights_flags,
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "trace", parents=[text_flags(), image_flags(), weights_flags(), json_flag()], help="write a dump of every tap"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="an empty or new folder")
    parser.add_argument(
        "--taps", action="append", metavar="PATTERN", help="only these, such as 'text.layer.5.*' (repeatable)"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=0, metavar="N", help="greedy cached steps after the prompt"
    )
    parser.set_defaults(run=run)


def run(args) -> int:
    """Run each prompt (a pass each; with --max-new-tokens a prefill and its steps) and write the dump."""
    from ref.dump.trace import default_taps, trace
    from ref.errors import wanted

    if args.max_new_tokens < 0:
        raise wanted("max-new-tokens", "trace", "0 or more", args.max_new_tokens)
    loaded = load_weights(args)
    prompts, images = read_multimodal(args, loaded)
    patterns = args.taps or default_taps(loaded, images)
    written = trace(loaded, prompts, args.out, run_settings(args), patterns, args.max_new_tokens, images)
    if args.json:
        print_json(written)
    else:
        note(f"{args.out}: {written['passes']} passes, {written['tensors']} tensors, {written['bytes'] / 1e6:.1f} MB")
    return FINE
