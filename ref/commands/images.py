"""Flags of commands that take images, and how images and text become one prompt."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ref.commands.shared import read_prompts
from ref.errors import wanted

if TYPE_CHECKING:  # importing it loads Numba, which a refusal or --help need not
    import numpy as np

    from ref.model.multimodal import Images
    from ref.prompt.images import Preprocessed


class Prompt(NamedTuple):
    """What goes into the model: token ids of each row, and the images that fill their soft tokens."""

    rows: list[list[int]]
    images: "Images | None"


class Picture(NamedTuple):
    """An --image file, and what the tower sees of it."""

    image: "np.ndarray"  # [Y, X, 3] uint8
    seen: "Preprocessed"


def image_flags() -> argparse.ArgumentParser:
    """Declare --image, --pan-and-scan, --image-layout."""
    parser = argparse.ArgumentParser(add_help=False)
    about = "for one prompt; <start_of_image> in a raw text says where each stands, else they come first"
    group = parser.add_argument_group("images", about)
    group.add_argument("--image", action="append", type=Path, metavar="FILE", help="repeatable, in order")
    group.add_argument("--pan-and-scan", action="store_true", help="see crops of long images too (as transformers)")
    group.add_argument(
        "--image-layout", choices=("transformers", "gemma"), help="newlines beside images: merged (default) or not"
    )
    return parser


def read_multimodal(args, loaded, pictures: "Sequence[Picture] | None" = None) -> Prompt:
    """Turn text or ids, and --image files, into a prompt.

    Args:
        args: the parsed command line.
        loaded: the weights.
        pictures: of `read_pictures`, where they have been read already.

    Raises:
        BadInput: as `read_prompts`; images for weights that have no vision tower, or beside several prompts; flags
            of images, markers or soft tokens without an image, or not as many; a file that is no image.
    """
    pictures = read_pictures(args, loaded) if pictures is None else pictures
    rows = read_prompts(args, loaded, [len(one.seen.boxes) for one in pictures])
    images = _gather(loaded, pictures) if pictures else None
    if loaded.vision:
        _check_places(rows, images, loaded.params.config)
    return Prompt(rows, images)


def read_pictures(args, loaded) -> "list[Picture]":
    """Read and preprocess the --image files.

    Raises:
        BadInput: as `read_multimodal`, of what concerns images.
    """
    if not args.image:
        for flag, given in (("--pan-and-scan", args.pan_and_scan), ("--image-layout", args.image_layout)):
            if given:
                raise wanted(flag, "images", "an --image beside it", "none")
        return []
    if loaded.vision is None:
        want = "weights with a vision tower (4b, 12b, 27b; a GGUF with --mmproj)"
        raise wanted("--image", f"--weights {args.weights}", want, "a text-only model")
    if len(args.text) > 1:
        raise wanted("prompt", "--image", "one", f"{len(args.text)} texts")
    return [_preprocess(path, loaded, args.pan_and_scan) for path in args.image]


def _check_places(rows, images, config) -> None:
    """Refuse soft tokens that no image fills, images that no soft token waits for, and markers without an image."""
    from ref.config import START_OF_IMAGE
    from ref.model.multimodal import check_count, soft_places, soft_token_id

    if images:
        check_count(int(soft_places(rows, config, images.vision.config.soft_tokens).sum()), images, config)
        return
    soft = soft_token_id(config)
    for token, name in ((START_OF_IMAGE, "<start_of_image>"), (soft, "soft tokens")):
        found = sum(row.count(token) for row in rows)
        if found and token < config.vocabulary:  # else it is no id at all, and refused as such
            raise wanted(name, "prompt", "none, as there is no --image", found)


def _preprocess(path: Path, loaded, pan_and_scan: bool):
    from ref.config import CROPS
    from ref.prompt.images import preprocess, read_image

    crops = CROPS["transformers"] if pan_and_scan else None
    image = read_image(path)
    return Picture(image, preprocess(image, crops, size=loaded.vision.config.image))


def _gather(loaded, pictures):
    import numpy as np

    from ref.model.multimodal import Images

    return Images(loaded.vision, np.concatenate([one.seen.pixels for one in pictures]))
