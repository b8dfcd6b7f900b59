"""`gemma3-ref tokens`: text to ids and pieces."""

from itertools import groupby

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.images import image_flags, read_multimodal
from ref.commands.shared import json_flag, load_weights, print_json, text_flags, weights_flags

FOLDED = 16  # so many equal tokens in a row are one line


ABOUT = About(
    "tokens",
    "show the token ids and pieces of a text, images included",
    "",
    ("gemma3-ref tokens --chat 'Why is the sky blue?'",),
)


def add(subparsers) -> None:
    """Declare the command."""
    add_command(subparsers, ABOUT, run, [text_flags(), image_flags(), weights_flags(), json_flag()])


def run(args) -> int:
    """Print one line per token: id, piece; the soft tokens of an image fold into one line."""
    loaded = load_weights(args)
    prompts, _ = read_multimodal(args, loaded)
    tokenizer = loaded.tokenizer()
    results = [{"ids": ids, "pieces": tokenizer.pieces(ids)} for ids in prompts]
    if args.json:
        print_json(results[0] if len(results) == 1 else results)
        return FINE
    for result in results:
        for (token, piece), run in groupby(zip(result["ids"], result["pieces"], strict=True)):
            times = len(list(run))
            lines = [f"{token:>7}  {piece!r}"]
            print("\n".join(lines * times if times < FOLDED else [f"{lines[0]}  x {times}"]))
    return FINE
