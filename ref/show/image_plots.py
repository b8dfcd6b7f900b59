"""Plots of images: crops, patches and soft tokens. Each returns a matplotlib figure, as those of `ref.show.plots`."""

from typing import Any

import numpy as np

from ref.config import SIGLIP, VisionConfig
from ref.show.canvas import BLUE, ORANGE, new_figure, styled


@styled
def plot_crops(image: np.ndarray, boxes: np.ndarray, squares: np.ndarray | None = None) -> Any:
    """Draw the crops on the photo, and beside it what the tower is given.

    Args:
        image: [Y, X, 3] uint8.
        boxes: [n, 4] y0, x0, y1, x1, as `ref.preprocess` returns them.
        squares: [1 + n, 3, Y, X] in [-1, 1], its pixels; None draws the photo only.
    """
    squares = np.empty((0, 3, 1, 1)) if squares is None else squares
    count = len(squares)
    figure, axes = new_figure(4 + 1.7 * count, 3, columns=1 + count, squeeze=False, width_ratios=[2.4] + [1] * count)
    photo, *others = axes[0]
    photo.imshow(image)
    for number, (y0, x0, y1, x1) in enumerate(boxes, 1):
        colour = (ORANGE, BLUE)[number % 2]
        photo.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, lw=2, clip_on=False)
        photo.text(x0 + 8, y0 + 8, str(number), va="top", color="white", backgroundcolor=colour)
    photo.set(title=f"{image.shape[1]} x {image.shape[0]}, {len(boxes)} crops", xticks=[], yticks=[])
    photo.set(xlim=(-4, image.shape[1] + 4), ylim=(image.shape[0] + 4, -4), frame_on=False)
    for number, one in enumerate(others):
        one.imshow((squares[number].transpose(1, 2, 0) + 1) / 2)
        one.set(title=f"crop {number}" if number else "whole", xticks=[], yticks=[])
    return figure


@styled
def plot_patches(
    pixels: np.ndarray, values: np.ndarray | None = None, v: VisionConfig = SIGLIP, title: str = ""
) -> Any:
    """Draw an image cut into patches, with the squares that become soft tokens; or values of patches or soft tokens.

    Args:
        pixels: [3, Y, X] in [-1, 1].
        values: [P] or [M], drawn over the image; None draws the grid.
        v: the tower.
        title: of the picture.
    """
    figure, axes = new_figure(5.2, 4.8)
    axes.imshow((pixels.transpose(1, 2, 0) + 1) / 2, alpha=1 if values is None else 0.5)
    patch, square = np.arange(0, v.image + 1, v.patch) - 0.5, np.arange(0, v.image + 1, v.patch * v.pool) - 0.5
    if values is None:
        for lines, width in ((patch, 0.25), (square, 1.0)):
            axes.hlines(lines, -0.5, v.image - 0.5, color="white", lw=width)
            axes.vlines(lines, -0.5, v.image - 0.5, color="white", lw=width)
    else:
        side = int(np.sqrt(values.size))
        drawn = axes.imshow(values.reshape(side, side), extent=(-0.5, v.image - 0.5, v.image - 0.5, -0.5), alpha=0.75)
        figure.colorbar(drawn, ax=axes, shrink=0.8)
    axes.set(xticks=[], yticks=[], title=title)
    return figure
