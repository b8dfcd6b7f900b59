"""`gemma3-ref crops`: which crops Pan & Scan makes of a picture, as numbers or drawn on it."""

import re
from pathlib import Path

from ref.commands import FINE
from ref.commands.about import About, add_command
from ref.commands.shared import json_flag, note, print_json
from ref.config import CROPS, CropConfig
from ref.errors import wanted

ABOUT = About(
    "crops",
    "show the crops that Pan & Scan makes of a picture",
    "",
    ("gemma3-ref crops 2500x1000",),
)


def add(subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, ABOUT, run, [json_flag()])
    parser.add_argument("image", help="a picture, or its size as WIDTHxHEIGHT, such as 2500x1000")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="draw the boxes on the picture")
    parser.add_argument("--policy", choices=CROPS, default="transformers", help="default: transformers")
    group = parser.add_argument_group("settings", "defaults: the policy's")
    group.add_argument("--min-ratio", type=float, metavar="R", help="of the sides, from which on there are crops")
    group.add_argument("--min-crop", type=int, metavar="N", help="pixels; no crops where one would be narrower")
    group.add_argument("--max-crops", type=int, metavar="N")


def run(args) -> int:
    """Print one line per box, or draw them."""
    from ref.commands.output import refuse_overwriting
    from ref.prompt.images import find_boxes, read_image

    size = re.fullmatch("([0-9]{1,9})x([0-9]{1,9})", args.image)
    crops = settings(args)
    if size and not Path(args.image).exists():
        image, (width, height) = None, map(int, size.groups())
        if args.out:
            raise wanted("image", "crops", "a picture to draw on", f"only a size, {args.image}")
        if not width or not height:
            raise wanted("size", "crops", "sides of at least 1 pixel", args.image)
    else:
        image = read_image(args.image)
        height, width = image.shape[:2]
    boxes = find_boxes(height, width, crops).tolist()
    if image is not None and args.out:
        refuse_overwriting(args.image, args.out)
        draw(image, boxes, args.out)
    show(args, width, height, crops, boxes)
    return FINE


def settings(args) -> CropConfig:
    """Return the policy with what the flags change."""
    given = {name: getattr(args, name) for name in ("min_ratio", "min_crop", "max_crops")}
    return CROPS[args.policy]._replace(**{name: value for name, value in given.items() if value is not None})


def draw(image, boxes, out: Path) -> None:
    """Draw the boxes and save the picture."""
    from PIL import Image

    from ref.commands.outline import outline
    from ref.commands.output import write_whole

    kind = Image.registered_extensions().get(out.suffix.lower())
    if kind not in Image.SAVE:
        raise wanted("output file", out, "an ending that Pillow writes, such as .png", out.suffix or "none")
    picture = outline(image, boxes)
    write_whole(out, lambda path: picture.save(path, kind))


def show(args, width, height, crops, boxes) -> None:
    """Print the boxes, or say where they are drawn."""
    if args.json:
        _, *rest = crops._asdict().items()
        print_json({"width": width, "height": height, "policy": crops.name, "boxes": boxes, **dict(rest)})
    elif args.out:
        note(f"{args.out}: {len(boxes)} crops of {width} x {height}")
    elif not boxes:
        note(f"no crops: {width} x {height} is seen whole only")
    else:
        print("y0, x0, y1, x1: pixels from the top left, the ends not included; then width x height")
        for y0, x0, y1, x1 in boxes:
            print(f"{[y0, x0, y1, x1]}  {x1 - x0} x {y1 - y0}")
