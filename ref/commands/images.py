"""Flags of commands that take images, and how images and text become one prompt."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ref.commands.shared import read_ids, read_prompts
from ref.errors import wanted

if TYPE_CHECKING:  # importing it loads Numba, which a refusal or --help need not
    from ref.model.gemma import Images


class Prompt(NamedTuple):
    """What goes into the model: token ids of each row, and the images that fill their soft tokens."""

    rows: list[list[int]]
    images: "Images | None"


def image_flags() -> argparse.ArgumentParser:
    """Declare --image, --pan-and-scan, --image-layout."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("images", "one prompt; <start_of_image> in it says where each stands, else first")
    group.add_argument("--image", action="append", type=Path, metavar="FILE", help="repeatable, in order")
    group.add_argument("--pan-and-scan", action="store_true", help="see crops of long images too (as transformers)")
    group.add_argument(
        "--image-layout", choices=("transformers", "gemma"), default="transformers", help="newlines beside images"
    )
    return parser


def read_multimodal(args, loaded) -> Prompt:
    """Turn text or ids, and --image files, into a prompt.

    Raises:
        BadInput: as `read_prompts`; images for weights that have no vision tower, or beside several prompts;
            --pan-and-scan without an image; a file that is no image.
    """
    if not args.image:
        if args.pan_and_scan:
            raise wanted("--pan-and-scan", "images", "an --image beside it", "none")
        return Prompt(read_prompts(args, loaded), None)
    if loaded.vision is None:
        want = "weights with a vision tower (4b, 12b, 27b; a GGUF with --mmproj)"
        raise wanted("--image", f"--weights {args.weights}", want, "a text-only model")
    if len(args.text) > 1:
        raise wanted("prompt", "--image", "one", f"{len(args.text)} texts")
    pictures = [_preprocess(path, loaded, args.pan_and_scan) for path in args.image]
    return Prompt([_encode(args, loaded, [len(one.boxes) for one in pictures])], _gather(loaded, pictures))


def _preprocess(path: Path, loaded, pan_and_scan: bool):
    from ref.config import CROPS
    from ref.prompt.images import preprocess, read_image

    crops = CROPS["transformers"] if pan_and_scan else None
    return preprocess(read_image(path), crops, size=loaded.vision.config.image)


def _gather(loaded, pictures):
    import numpy as np

    from ref.model.gemma import Images

    return Images(loaded.vision, np.concatenate([one.pixels for one in pictures]))


def _encode(args, loaded, crops: list[int]) -> list[int]:
    from ref.prompt.placeholders import encode_chat_with_images, encode_with_images, user_turn
    from ref.prompt.tokenizer import check_text

    if args.ids is not None:
        if args.text or args.chat or args.system:
            raise wanted("prompt", "--ids", "either text or ids", "both")
        return read_ids(args.ids)
    text = check_text(args.text[0] if args.text else "", "prompt")
    how = {"layout": args.image_layout, "soft_tokens": loaded.vision.config.soft_tokens}
    if not args.chat:
        if args.system:
            raise wanted("--system", "prompt", "--chat beside it", "none")
        control = "forbid" if args.forbid_control else "split"
        return encode_with_images(loaded.tokenizer(), text, crops, control=control, **how)
    turns = [user_turn(text, len(crops))]
    if args.system:
        turns.insert(0, {"role": "system", "content": check_text(args.system, "--system")})
    return encode_chat_with_images(loaded.tokenizer(), turns, crops, **how)
