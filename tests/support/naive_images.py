"""Oracles of images: one pixel at a time, in fractions, no floats to round. Slow and obvious on purpose."""

from fractions import Fraction
from math import ceil, floor


def line_weights(inputs, outputs):
    """[O][I] fractions: how much each input pixel of a line counts in each output pixel."""
    ratio = Fraction(inputs, outputs)
    reach = max(ratio, Fraction(1))
    rows = []
    for o in range(outputs):
        middle = (o + Fraction(1, 2)) * ratio
        row = [max(1 - abs(i + Fraction(1, 2) - middle) / reach, Fraction(0)) for i in range(inputs)]
        rows.append([weight / sum(row) for weight in row])
    return rows


def turn(image):
    """Swap rows and columns."""
    return [list(column) for column in zip(*image, strict=True)]


def weigh_columns(image, width, whole):
    """Resize along X; `whole`: weights in units of 2^-22, sums to whole levels, halves up."""
    if width == len(image[0]):
        return image
    weights = line_weights(len(image[0]), width)
    if whole:
        weights = [[floor(weight * 2**22 + Fraction(1, 2)) for weight in row] for row in weights]

    def value(line, row, c):
        total = sum(w * Fraction(pixel[c]) for w, pixel in zip(row, line, strict=True))
        return min(255, floor(Fraction(total, 2**22) + Fraction(1, 2))) if whole else total

    return [[[value(line, row, c) for c in range(len(line[0]))] for row in weights] for line in image]


def resize(rule, image, height, width):
    """[Y][X][C] to [height][width][C]: of the rule `pillow` whole levels, of `float` exact sums."""
    whole = rule == "pillow"
    shrinks = len(image) - height
    rows_first = shrinks > 0 and shrinks > 2 * (len(image[0]) - width)

    def columns(value):
        return weigh_columns(value, width, whole)

    def rows(value):
        return turn(weigh_columns(turn(value), height, whole))

    out = columns(rows(image)) if rows_first else rows(columns(image))
    return [[[float(value) for value in pixel] for pixel in line] for line in out]


def crop_boxes(height, width, min_ratio, min_crop, max_crops, past_edge):
    """List of [y0, x0, y1, x1]; pixels are dealt to strips one at a time."""
    longer, shorter = max(height, width), min(height, width)
    ratio = Fraction(longer, shorter)
    if ratio < Fraction(str(min_ratio)):
        return []
    count = floor(ratio + Fraction(1, 2))
    if longer < count * min_crop:
        count = longer // min_crop
    if count < 2:
        count = 2
    if count > max_crops:
        count = max_crops
    size = ceil(Fraction(longer, count))
    if size < min_crop or shorter < min_crop:
        return []
    spans = [[i * size, (i + 1) * size] for i in range(count)]
    if past_edge == "clip":
        strips = [[pixel for pixel in range(longer) if pixel // size == i] for i in range(count)]
        spans = [[strip[0], strip[-1] + 1] for strip in strips if strip]
    if width >= height:
        return [[0, start, height, stop] for start, stop in spans]
    return [[start, 0, stop, width] for start, stop in spans]
