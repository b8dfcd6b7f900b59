"""`gemma3-ref generate`: continue text, streaming."""

from ref.commands import FINE
from ref.commands.about import About, add_command
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
from ref.errors import BadInput

ABOUT = About(
    "generate",
    "continue text and images with the model's words",
    "",
    ("gemma3-ref generate 'The sky is' --greedy --max-new-tokens 8",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [text_flags(), image_flags(), weights_flags(), json_flag()])
    group = parser.add_argument_group("sampling", "defaults: the released generation_config")
    group.add_argument("--max-new-tokens", type=int, default=64, metavar="N")
    group.add_argument("--greedy", action="store_true", help="always the most probable token")
    group.add_argument("--temperature", type=float, default=1.0)
    group.add_argument("--top-k", type=int, default=64, help="0 keeps all")
    group.add_argument("--top-p", type=float, default=0.95, help="1 keeps all")
    group.add_argument("--seed", type=int, default=0)


def run(args) -> int:
    """Load, encode, generate; stream the text of a single prompt as it comes."""
    from ref.model.generate import Sampling, check_sampling, generate
    from ref.prompt.chat import stop_ids

    sampling = check_sampling(Sampling(args.greedy, args.temperature, args.top_k, args.top_p, args.seed), "generate")
    loaded = load_weights(args)
    prompts, images = read_multimodal(args, loaded)
    tokenizer = find_tokenizer(args, loaded)
    if args.chat and not loaded.instruction_tuned:
        note(f"note: --weights {args.weights} are pretrained; they were never taught to answer turns")
    stop = stop_ids(loaded.instruction_tuned or args.chat)
    steps = generate(loaded.params, prompts, args.max_new_tokens, sampling, stop, run_settings(args), images)
    streaming = tokenizer.stream(skip_control=True) if tokenizer and len(prompts) == 1 and not args.json else None
    rows: list[list[int]] = [[] for _ in prompts]
    for step in steps:
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.append(token)
        if streaming and step[0] is not None:
            print(streaming.push(step[0]), end="", flush=True)
    if streaming:
        print(streaming.flush())
        return FINE
    return show(args, loaded, prompts, rows, tokenizer)


def find_tokenizer(args, loaded):
    """Return the tokenizer, or None where ids were given and there is none to turn the new ones into text."""
    if not args.ids:
        return loaded.tokenizer()
    try:
        return loaded.tokenizer() if loaded.params.config.vocabulary >= 1000 else None
    except BadInput as error:
        note(f"note: ids only, no text: {error}")
        return None


def show(args, loaded, prompts, rows, tokenizer) -> int:
    """Print what was generated: JSON, or each prompt's continuation."""
    weights = {"name": loaded.name, "held_as": loaded.held_as}
    results = [
        {
            "prompt_ids": prompt,
            "ids": ids,
            "text": tokenizer.decode(ids, skip_control=True) if tokenizer else None,
            "weights": weights,
        }
        for prompt, ids in zip(prompts, rows, strict=True)
    ]
    if args.json:
        print_json(results[0] if len(results) == 1 else results)
        return FINE
    for number, result in enumerate(results):
        head = f"--- {number + 1}: {args.text[number]}\n" if len(results) > 1 else ""
        print(head + (result["text"] if tokenizer else ",".join(map(str, result["ids"]))))
    return FINE
