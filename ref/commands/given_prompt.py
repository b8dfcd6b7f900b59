"""Flags of `capture` that take a prompt from a file, or from a dump that is to be made once more with other taps."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ref.commands.images import read_multimodal
from ref.errors import BadInput, wanted

if TYPE_CHECKING:
    from ref.dump.prompt_file import PromptFile
    from ref.model.multimodal import Images


class Given(NamedTuple):
    """What goes into a witness."""

    rows: list[list[int]]
    images: "Images | None"
    steps: int
    left_pads: list[int] | None = None  # of the rows of one batch; None: each row is run for itself
    taps: tuple[str, ...] = ()  # of the dump that is made once more


def prompt_file_flags() -> argparse.ArgumentParser:
    """Declare --prompt-file and --like."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("prompts of the judge, in the place of a text")
    about = "prompt.json of `compare --next`, or its folder: ids, left pads, steps, images"
    group.add_argument("--prompt-file", type=Path, metavar="FILE", help=about)
    about = "the prompt, steps and taps of an earlier dump; --taps adds to them"
    group.add_argument("--like", type=Path, metavar="DUMP", help=about)
    return parser


def given_prompt(args, loaded) -> Given:
    """Turn text, ids, --image files, --prompt-file or --like into what goes into a witness.

    Args:
        args: the parsed command line.
        loaded: the weights.

    Raises:
        BadInput: more than one of them, or as `read_multimodal`, `read_prompt_file`, `prompt_of`.
    """
    from ref.dump.prompt_file import prompt_of, read_prompt_file

    flags = {"--prompt-file": args.prompt_file, "--like": args.like}
    flags = {flag: path for flag, path in flags.items() if path is not None}
    if not flags:
        prompt = read_multimodal(args, loaded)
        return Given(prompt.rows, prompt.images, args.max_new_tokens or 0)
    flag, path = next(iter(flags.items()))
    others = {"a text": args.text, "--ids": args.ids, "--image": args.image, "--chat": args.chat, **flags}
    both = [name for name, value in others.items() if value and name != flag]
    if both:
        raise BadInput(f"prompt: wanted either {flag} or {both[0]}, got both")
    prompt, taps = prompt_of(path) if flag == "--like" else (read_prompt_file(path), [])
    steps = prompt.steps if args.max_new_tokens is None else args.max_new_tokens
    pads = prompt.left_pads if prompt.padded else None
    return Given(prompt.rows, _images(args, loaded, prompt, path), steps, pads, tuple(taps))


def given_turns(args, loaded) -> list[list[int]]:
    """Turn --turn flags into token ids: text, or ids where the prompt is --ids; a turn has no BOS.

    Args:
        args: the parsed command line, of an adapter that has the flag or not.
        loaded: the weights.

    Raises:
        BadInput: beside --chat, which would have to know what the model answered; as `read_ids` and `check_text`.
    """
    from ref.commands.shared import read_ids
    from ref.prompt.tokenizer import check_text

    turns = getattr(args, "turn", None) or []
    if turns and args.chat:
        raise BadInput("--turn: wanted a prompt without --chat, whose turns are written out, got --chat")
    if args.ids is not None:
        return [read_ids(one) for one in turns]
    control = "forbid" if args.forbid_control else "split"
    return [loaded.tokenizer().encode(check_text(one, "--turn"), bos=False, control=control) for one in turns]


def _images(args, loaded, prompt: "PromptFile", where: Path) -> "Images | None":
    """Return the images of a prompt, those of files preprocessed, refusing what the weights cannot see."""
    from ref.commands.images import read_pictures
    from ref.model.multimodal import Images, check_count, soft_places

    config = loaded.params.config
    pixels = prompt.pixels
    if prompt.images:
        args.image = list(prompt.images)
        pixels = _stacked([one.seen.pixels for one in read_pictures(args, loaded)])
    if pixels is None:
        return None
    if loaded.vision is None:
        raise wanted("images", where, "none, since the weights have no vision tower", len(pixels))
    images = Images(loaded.vision, pixels)
    found = sum(int(soft_places([row], config, loaded.vision.config.soft_tokens).sum()) for row in prompt.rows)
    check_count(found, images, config)
    return images


def _stacked(several):
    import numpy as np

    return np.concatenate(several)
