"""`gemma3-ref preprocess`: a picture to the pixels that the vision tower sees."""

from pathlib import Path

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, print_json
from ref.config import CROPS
from ref.errors import wanted

ABOUT = About(
    "preprocess",
    "turn a picture into the vision tower's pixels",
    "",
    ("gemma3-ref preprocess photo.png -o pixels.safetensors",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [json_flag()])
    parser.add_argument("image", help="a picture that Pillow reads")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="safetensors, tensor `pixels`")
    parser.add_argument("--pan-and-scan", action="store_true", help="the whole picture, then its crops")
    parser.add_argument("--policy", choices=CROPS, help="of the crops; default: transformers")
    parser.add_argument(
        "--resize",
        choices=("pillow", "pillow12.1", "float"),
        default="pillow",
        help="bytes as Pillow 13, as Pillow up to 12.1, or floats as google-deepmind/gemma",
    )


def run(args) -> int:
    """Write the pixels; print their shape and the crops' boxes."""
    from safetensors.numpy import save

    from ref.commands.output import refuse_overwriting, write_whole
    from ref.prompt.images import preprocess, read_image

    if args.policy and not args.pan_and_scan:
        raise wanted("--policy", "preprocess", "--pan-and-scan beside it", "none")
    image = read_image(args.image)
    refuse_overwriting(args.image, args.out)
    crops = CROPS[args.policy or "transformers"] if args.pan_and_scan else None
    pixels, boxes = preprocess(image, crops, resize=args.resize)
    write_whole(
        args.out, lambda path: path.write_bytes(save({"pixels": pixels}))
    )  # save_file would hide it from others
    if args.json:
        print_json({"boxes": boxes.tolist(), "shape": list(pixels.shape), "out": str(args.out)})
    else:
        print(f"shape {list(pixels.shape)}\nboxes {boxes.tolist()}")
    return FINE
