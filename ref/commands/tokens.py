"""`gemma3-ref tokens`: text to ids and pieces."""

from ref.commands import FINE
from ref.commands.shared import json_flag, load_weights, print_json, read_prompts, text_flags, weights_flags


def add(subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "tokens",
        parents=[text_flags(), weights_flags(), json_flag()],
        help="show the token ids and pieces of a text",
    )
    parser.set_defaults(run=run)


def run(args) -> int:
    """Print one line a token: id, piece."""
    loaded = load_weights(args)
    prompts = read_prompts(args, loaded)
    tokenizer = loaded.tokenizer()
    results = [{"ids": ids, "pieces": tokenizer.pieces(ids)} for ids in prompts]
    if args.json:
        print_json(results[0] if len(results) == 1 else results)
        return FINE
    for result in results:
        for token, piece in zip(result["ids"], result["pieces"], strict=True):
            print(f"{token:>7}  {piece!r}")
    return FINE
