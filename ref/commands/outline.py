"""Boxes drawn on a picture, to be seen on any ground and at any size."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#ffd400", "#00d0ff", "#ff5ac8", "#6cf06c")  # of neighbours; each stands on a dark edge
SMALLEST = 480  # pixels of the longer side; smaller pictures are enlarged by a whole factor


def outline(image: np.ndarray, boxes: list[list[int]]) -> Image.Image:
    """Draw numbered boxes on an image.

    Args:
        image: [Y, X, 3] uint8.
        boxes: y0, x0, y1, x1, half-open; what reaches past the edge is black.

    Returns:
        a picture; larger than the image by a whole factor where that has fewer than 480 pixels, and by what reaches
        past its edge.
    """
    sides = np.array([image.shape[:2], *(box[2:] for box in boxes)]).max(axis=0)
    whole = np.zeros((*sides, 3), np.uint8)
    whole[: image.shape[0], : image.shape[1]] = image
    factor = max(1, -(-SMALLEST // max(sides)))
    whole = whole.repeat(factor, axis=0).repeat(factor, axis=1)
    picture = Image.fromarray(whole)
    canvas = ImageDraw.Draw(picture)
    line = max(1, round(max(whole.shape) / 400))
    for number, box in enumerate(boxes, 1):
        y0, x0, y1, x1 = (side * factor for side in box)
        colour = COLOURS[(number - 1) % len(COLOURS)]
        _frame(canvas, (x0, y0, x1 - 1, y1 - 1), line, colour)
        _tag(canvas, (x0, y0, x1 - 1, y1 - 1), line, colour, str(number))
    return picture


def _frame(canvas, corners, line, colour):
    """Draw a frame of three lines inside the box: dark, coloured, dark."""
    x0, y0, x1, y1 = corners
    for inset, width, ink in ((0, 4 * line, "black"), (line, 2 * line, colour)):
        if x1 - x0 > 2 * inset and y1 - y0 > 2 * inset:
            canvas.rectangle((x0 + inset, y0 + inset, x1 - inset, y1 - inset), outline=ink, width=width)


def _tag(canvas, corners, line, colour, text):
    """Write the number on a dark plate in the upper left corner: a sixth of the box high, in small boxes more."""
    x0, y0, x1, y1 = corners
    side = min(x1 - x0, y1 - y0)
    height = max(round(side / 6), min(24, round(side * 0.4)), 6)
    try:
        font = ImageFont.load_default(size=height)
    except ImportError:  # Pillow without FreeType has one small size
        font = ImageFont.load_default()
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    pad = 4 * line
    plate = (x0 + pad, y0 + pad, x0 + 3 * pad + right - left, y0 + 3 * pad + bottom - top)
    canvas.rectangle(plate, fill="black")
    canvas.text((x0 + 2 * pad - left, y0 + 2 * pad - top), text, fill=colour, font=font)
