"""Counterexamples as small pictures of text: masks in rows of x and ., boxes as areas of digits."""

from itertools import zip_longest

import numpy as np

from ref.mutants.visibility_parts import Layout, real_rows

MOST_BOXES = 8
MOST_CELLS = 24  # rows or columns of a mask that are drawn
_NAMES = {
    "t": "text", "I": "image", "p": "pad", "'": "text that begins another prompt", "c": "cached",
    "-": "cached, but not of this prompt",
}  # fmt: skip
COLUMNS, ROWS = 24, 8  # of a picture of boxes, at most


def describe_layout(layout: Layout) -> str:
    """Say in one line what the layer was told.

    Args:
        layout: the tokens of a pass.
    """
    kind = "global layer" if layout.window is None else f"local layer, window {layout.window}"
    cached = f" after {_count(layout.start, 'cached key')}" if layout.start else ""
    return f"{kind}; {_count(len(layout.soft), 'token')}{cached}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def draw_mask(layout: Layout, expected: np.ndarray, got: np.ndarray | None) -> str:
    """Draw what each token must see and, beside it, what it saw.

    Args:
        layout: the tokens of a pass.
        expected: [T, S] bool.
        got: [T, S] bool; None where there was no answer.

    Returns:
        Lines of text. In the right half X is seen wrongly, o is wrongly not seen. Of a large mask, the part around
        the first difference.

    Source: the docstring of `ref.ops.visibility.visible_keys`.
    """
    T, S = expected.shape
    real = real_rows(layout)[:, None]
    wrong = np.zeros((T, S), bool) if got is None else (expected != got) & real
    row, column = np.argwhere(wrong)[0] if wrong.any() else (0, 0)
    rows, columns = _around(row, T), _around(column, S)
    names = _key_names(layout)
    halves = [_letters(expected, "x", ".")]
    if got is not None:
        halves.append(np.where(wrong, _letters(got, "X", "o"), _letters(got, "x", ".")))
    halves = [np.where(real, half, " ") for half in halves]  # what a pad sees is not judged
    heads = [" ".join(str(key)[-1] for key in columns), " ".join(names[key] for key in columns)]
    titles = ["expected", "got"][: len(halves)]
    lines = [" " * 9 + "   ".join(f"{title:{len(heads[0])}}" for title in titles)]
    lines += [
        f"  {label:5}  {'   '.join([head] * len(halves))}" for label, head in zip(("key", ""), heads, strict=True)
    ]
    for t in rows:
        cells = " | ".join(" ".join(half[t, columns.start : columns.stop]) for half in halves)
        lines.append(f"  {layout.start + t:3} {names[layout.start + t]}  {cells}")
    if (len(rows), len(columns)) != (T, S):
        lines.append(f"  (only rows {rows[0]} to {rows[-1]} of {T} and keys {columns[0]} to {columns[-1]} of {S})")
    if got is not None:
        lines.append("  X seen, but must not be; o must be seen, but is not")
    lines.append("  " + ", ".join(f"{name} {what}" for name, what in _NAMES.items() if name in names))
    return "\n".join(line.rstrip() for line in lines)


def _letters(cells: np.ndarray, seen: str, unseen: str) -> np.ndarray:
    return np.where(cells, seen, unseen)


def _around(place: int, count: int) -> range:
    begin = max(0, min(place - MOST_CELLS // 2, count - MOST_CELLS))
    return range(begin, min(begin + MOST_CELLS, count))


def _key_names(layout: Layout) -> list[str]:
    names = ["-" if key < layout.first[0] else "c" for key in range(layout.start)]
    for t, (soft, real) in enumerate(zip(layout.soft, real_rows(layout), strict=True)):
        begins = t > 0 and layout.first[t] != layout.first[t - 1]
        names.append("p" if not real else "I" if soft else "'" if begins else "t")
    return names


def draw_boxes(width: int, height: int, expected: list, got: list | None) -> str:
    """Draw the boxes that must be and, beside them, those that were given.

    Args:
        width, height: of the image, in pixels.
        expected: list of [y0, x0, y1, x1], half-open.
        got: the same; None where there was no answer.

    Returns:
        Lines of text: box n is an area of its digit, # where boxes overlap, . where the image is in none, blank past
        its edge; below, the boxes in numbers, those that differ marked with <.
    """
    halves = [["expected", *_areas(width, height, expected), *_numbers(expected, expected)]]
    if got is not None:
        halves.append(["got", *_areas(width, height, got), *_numbers(got, expected)])
    wide = max(len(line) for line in halves[0])
    rows = zip_longest(*halves, fillvalue="")
    return "\n".join("  " + " | ".join(f"{cell:{wide}}" for cell in row).rstrip() for row in rows)


def _areas(width, height, boxes):
    scale = max(width / COLUMNS, height / (2 * ROWS))  # a letter is twice as high as it is wide
    across, down = max(1, round(width / scale)), max(1, round(height / scale / 2))
    x = (np.arange(across + 2) + 0.5) * width / across  # two columns and a row past the edge
    y = (np.arange(down + 1) + 0.5) * height / down
    count, last = np.zeros((len(y), len(x)), int), np.zeros((len(y), len(x)), int)
    for n, (y0, x0, y1, x1) in enumerate(boxes):
        inside = ((y >= y0) & (y < y1))[:, None] & (x >= x0) & (x < x1)
        count += inside
        last[inside] = n
    image = (y < height)[:, None] & (x < width)
    letters = np.where(count == 1, np.array(list("0123456789"))[last % 10], np.where(image, ".", " "))
    letters[count > 1] = "#"
    return ["".join(row) for row in letters]


def _numbers(boxes, others):
    lines = []
    for n, (y0, x0, y1, x1) in enumerate(boxes[:MOST_BOXES]):
        mark = "  <" if n >= len(others) or boxes[n] != others[n] else ""
        lines.append(f"{n}: [{y0}, {x0}, {y1}, {x1}]  {x1 - x0} x {y1 - y0}{mark}")
    more = len(boxes) - len(lines)
    return [*lines, f"and {more} more"] if more else lines or ["no boxes"]
