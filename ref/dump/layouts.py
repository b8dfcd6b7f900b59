"""Layouts: the axes of a tensor, brought to the registry's by their names and lengths, never by a guess.

    layout "B N T H" of a tap that is "B T N H":   b n t h -> b t n h, as einops writes it

Lengths come from the configuration and the pass: so merged axes can be split, and a wrong shape be told.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import permutations
from math import prod
from typing import Any, NamedTuple

from ref.errors import wanted
from ref.model.taps import tap_row
from ref.untrusted import quoted

SIZES = ("width", "layers", "query_heads", "kv_heads", "head_dim", "ffn_width", "vocabulary")
VISION_SIZES = ("width", "layers", "heads", "ffn_width", "patch", "image", "channels", "soft_tokens")
LETTERS = {"d": "width", "n": "query_heads", "k": "kv_heads", "h": "head_dim", "f": "ffn_width", "v": "vocabulary"}
VISION_LETTERS = {"d": "width", "n": "heads", "f": "ffn_width", "m": "soft_tokens", "c": "channels", "y": "image"}
FLOATS = ("float16", "bfloat16", "float32", "float64")
MOST = 2**40  # of any length that a configuration may claim


class Lengths(NamedTuple):
    """Lengths of axes by their letters, as far as they are known, and what else bounds a pass."""

    text: dict[str, int]
    vision: dict[str, int]
    keys: int  # that there are after the pass: S is at most this
    layers: int | None
    blocks: int | None  # of the vision tower


class Fit(NamedTuple):
    """How a shape becomes one in the registry's axes."""

    shape: tuple[int, ...]
    pattern: str
    sizes: dict[str, int]


def lengths_of(config: Mapping[str, Any], rows: int, tokens: int, cached: int, images: int | None) -> Lengths:
    """Return the lengths of axes in one pass.

    Args:
        config: of the dump, `TextConfig` as a dictionary and under "vision" `VisionConfig`; {} knows nothing.
        rows: B.
        tokens: T.
        cached: keys of earlier passes.
        images: B of the tower; None where it is not known.

    Raises:
        BadInput: a size that is no positive integer.

    Source: `help(ref)`, `ref.model.taps`.
    """
    seen = config.get("vision") or {}
    if not isinstance(seen, Mapping):
        raise wanted("model.config.vision", "dump", "an object", seen)
    c, v = _sizes(config, SIZES, ""), _sizes(seen, VISION_SIZES, "vision.")
    text = {letter: c[name] for letter, name in LETTERS.items() if name in c} | {"b": rows, "t": tokens}
    vision = {letter: v[name] for letter, name in VISION_LETTERS.items() if name in v} | (
        {"b": images} if images else {}
    )
    if "n" in text and "k" in text:
        text["g"] = text["n"] // text["k"]
    if "y" in vision:
        vision["x"] = vision["y"]
        vision |= {"p": (v["image"] // v["patch"]) ** 2} if "patch" in v else {}
    if "n" in vision and "d" in vision:
        vision["h"] = vision["d"] // vision["n"]
    for prefix, some in (("", text), ("vision.", vision)):
        for letter in (letter for letter, length in some.items() if not length):  # one made of two others
            want = {
                "g": "as many query_heads as kv_heads",
                "p": "an image as large as a patch",
                "h": "a width per head",
            }
            raise wanted(f"model.config.{prefix}sizes", "dump", f"at least {want.get(letter, letter)}", "fewer")
    return Lengths(text, vision, cached + tokens, c.get("layers"), v.get("layers"))


def _sizes(config: Mapping[str, Any], fields: Sequence[str], prefix: str) -> dict[str, int]:
    for field in fields:
        value = config.get(field, 1)
        if type(value) is not int or not 0 < value < MOST:
            raise wanted(f"model.config.{prefix}{field}", "dump", "an integer > 0", value)
    return {field: config[field] for field in fields if field in config}


def lengths_at(tap: str, lengths: Lengths) -> dict[str, int]:
    """Return the lengths of the axes of one tap: D, N, H and F of the tower are not the text's."""
    if tap.startswith(("text.", "model.")):
        return lengths.text
    if tap != "vision.soft_tokens":
        return lengths.vision
    own = {letter: length for letter, length in lengths.vision.items() if letter != "d"}
    return own | ({"d": lengths.text["d"]} if "d" in lengths.text else {})


def axes_of_value(tap: str, dtype: str, what: str, where: object) -> str:
    """Return a tap's axes in lower case, of one that comes twice the second as p2.

    Args:
        tap: registered.
        dtype: of the value; a boolean attn.visible is a matrix.
        what: the tensor, for refusals.
        where: its file.

    Raises:
        BadInput: a dtype that the tap cannot have.
    """
    row = tap_row(tap)
    assert row is not None
    if row.integers:
        if dtype != "int64" and not (dtype == "bool" and row.is_visibility):
            raise wanted(f"dtype of {what}", where, "an integer, or bool for attn.visible", dtype)
        return "b t s" if dtype == "bool" else row.axes.lower().replace("2", "pair")
    if dtype not in FLOATS:
        raise wanted(f"dtype of {what}", where, f"one of {' '.join(FLOATS)}", dtype)
    return row.axes.lower().replace("p p", "p p2")


def sides_of(layout: str, axes: str, what: str, where: object) -> tuple[str, str]:
    """Return both sides of the rearrangement that a layout is.

    Args:
        layout: the tap's axes in any order, merged ones in brackets; B may be left out, K G stand for N.
        axes: from `axes_of_value`.
        what: the tensor, for refusals.
        where: its file.

    Raises:
        BadInput: no such layout.
    """
    left = layout.lower().replace("2", "s" if axes == "b t s" else "pair")
    left = re.sub(r"\bp\b(.*)\bp\b", r"p\1p2", left)
    letters = letters_of(left)
    in_groups = "n" in axes.split() and "n" not in letters and {"k", "g"} <= set(letters)
    right = axes.replace("n", "(k g)") if in_groups else axes
    group = r"(\w+|\(\w+( \w+)+\))"
    good = re.fullmatch(f"{group}( {group})*", left) and len(set(letters)) == len(letters)
    if not good or set(letters) | {"b"} != set(letters_of(right)) | {"b"}:
        raise wanted(f"layout of {what}", where, f"the axes {written(axes)}, merged ones in brackets", quoted(layout))
    return left, right


@lru_cache(4096)  # asked for each tensor of dumps that have many thousands
def letters_of(side: str) -> tuple[str, ...]:
    """List the letters of one side of a rearrangement."""
    return tuple(token for token in re.findall(r"\w+", side) if token != "1")


@lru_cache(4096)
def _groups(side: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\([^)]*\)|\w+", side))


def written(axes: str) -> str:
    """Write axes as a layout does."""
    return axes.upper().replace("PAIR", "2").replace("P2", "P")


def fit(left: str, right: str, axes: str, shape: Sequence[int], known: Mapping[str, int], keys: int) -> Fit | None:
    """Match a shape with the left side of a rearrangement; None if it cannot be.

    Args:
        left: such as `b t (n h)`; axes of length 1 (a literal 1, the batch) may be missing in the shape.
        right: such as `b t n h`.
        axes: the tap's.
        shape: found.
        known: lengths; an unknown one is what is left of its axis.
        keys: the most that S can be.
    """
    for side in _shorter(left, known):
        groups = _groups(side)
        sizes = _solve(groups, shape, known) if len(groups) == len(shape) else None
        if sizes is None:
            continue
        here = set(letters_of(side))
        target = " ".join("1" if group == "b" and "b" not in here else group for group in _groups(right))
        lengths = {"b": 1} | sizes
        final = tuple(prod(lengths[letter] for letter in letters_of(group)) for group in _groups(right))
        if _can_be(axes, final, known, keys):
            merged = {letter for group in groups if " " in group for letter in letters_of(group)}
            return Fit(final, f"{side} -> {target}", {letter: sizes[letter] for letter in merged})
    return None


def _shorter(left: str, known: Mapping[str, int]) -> Iterator[str]:
    """List a left side as it is, then without axes of length 1: literal ones, the batch, both."""
    leave_out = [set(), {"1"}, {"b"}, {"1", "b"}] if known.get("b", 1) == 1 else [set(), {"1"}]
    for gone in leave_out:
        if gone <= set(_groups(left)):
            yield " ".join(group for group in _groups(left) if group not in gone)


def _solve(groups: Sequence[str], shape: Sequence[int], known: Mapping[str, int]) -> dict[str, int] | None:
    """Give every letter a length: the known one, or what is left of its axis; None if that cannot be."""
    sizes: dict[str, int] = {}
    for group, length in zip(groups, shape, strict=True):
        letters = letters_of(group)
        free = [letter for letter in letters if letter not in known]
        rest = prod(known[letter] for letter in letters if letter in known)
        if len(free) > 1 or length % rest or (not free and length != rest):
            return None
        sizes |= {letter: known.get(letter, length // rest) for letter in letters}
    return sizes


def _can_be(axes: str, final: Sequence[int], known: Mapping[str, int], keys: int) -> bool:
    """Tell whether a shape in the registry's axes is one that the tap can have."""
    lengths = dict(zip(axes.split(), final, strict=True))
    if lengths.pop("p2", None) != lengths.get("p") and "p2" in axes:
        return False
    if not 0 < lengths.pop("s", keys) <= keys or lengths.pop("pair", 2) != 2:
        return False
    return all(length == known.get(letter, length) for letter, length in lengths.items())


def layouts_that_fit(axes: str, shape: Sequence[int], known: Mapping[str, int], keys: int) -> list[str]:
    """List at most two layouts in which a shape would be a tap's: axes in another order, merged, without the batch.

    Args:
        axes: the tap's, from `axes_of_value`.
        shape: found.
        known: lengths of axes.
        keys: the most that S can be.
    """
    found: list[str] = []
    for side in every_layout(axes.split(), len(shape), known.get("b", 1) == 1):
        if fit(side, axes, axes, shape, known, keys) and written(side) not in found:
            found.append(written(side))
    return found[:2]


def every_layout(letters: list[str], count: int, one_row: bool) -> Iterator[str]:
    """List the layouts of so many axes: in any order, two merged, without the batch where it has one row."""
    for some in [letters, letters[1:]] if one_row and letters[0] == "b" else [letters]:
        for order in permutations(some):
            if len(some) == count:
                yield " ".join(order)
            for i in range(len(some) - 1) if len(some) == count + 1 else ():
                merged = order[i] + order[i + 1]
                if merged in ("nh", "kh") or (merged == "bt" and not one_row):
                    yield " ".join([*order[:i], f"({order[i]} {order[i + 1]})", *order[i + 2 :]])
