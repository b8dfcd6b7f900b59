"""What hooks of a table report to: values are copied at once, brought to the registry's axes and written."""

import re
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange

from ref.capture.common import say_left_out
from ref.capture.places import Place
from ref.capture.rows import Rows
from ref.config import TextConfig
from ref.dump.layouts import axes_of_value, fit, layouts_that_fit, lengths_of, letters_of, sides_of, written
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.model.taps import Recorder, check_patterns


class Values:
    """Takes the values of one pass after another.

    Args:
        writer: the dump.
        config: of the weights: lengths of axes.
        patterns: which taps.
    """

    def __init__(self, writer: DumpWriter, config: TextConfig, patterns: Sequence[str]):
        self.writer, self.config, self.recorder = writer, config, Recorder(*patterns)
        self.left_out: dict[str, str] = {}
        self.dtype = ""  # of the first product
        self.open = False
        self.rows: Rows | None = None

    def begin(self, rows: int, tokens: int, cached: int = 0) -> None:
        """Begin a pass of B rows and T tokens, after so many cached ones."""
        self.lengths = lengths_of(self.config._asdict(), rows, tokens, cached, None)
        self.calls: Counter[Place] = Counter()
        self.heard: set[str] = set()
        self.rows = self.rows or Rows(self.writer, rows)
        self.open = True

    def wants(self, place: Place) -> bool:
        """Count a call of a place, and tell whether its value would be kept.

        Raises:
            BadInput: it was called before in this pass, and the table does not say which call is meant.
        """
        number = self.calls[place]
        self.calls[place] += 1
        if place.call is None and number and self.open:
            say = f"'{place.side}, call 0' for the first of them"
            want = f"one call a pass, or a row that says which, as {say}"
            raise wanted(f"module {place.module or 'the model'}", "table", want, "it is used again in the same pass")
        right = self.open and place.call in (None, number)
        return right and any(map(self.recorder.wants, place.taps))

    def take(self, place: Place, value: np.ndarray) -> None:
        """Take a value that was heard; its memory may be written over afterwards.

        Raises:
            BadInput: its shape is not that of the layout.
        """
        for tap, layout, part in self._parts(place, value):
            if not self.recorder.wants(tap):
                continue
            if tap in self.heard:
                raise wanted(f"tap {tap}", "table", "one place", f"a second one, the {place}")
            whole = self._aligned(tap, layout, part, str(place))
            if tap.endswith((".attn.q", ".ffn.gate")):
                self.dtype = self.dtype or str(whole.dtype)
            self._keep(tap, whole)

    def _keep(self, tap: str, whole: np.ndarray) -> None:
        assert self.rows is not None
        self.heard.add(tap)
        for row in range(self.rows.count):
            self.rows.keep(row, tap, whole[row : row + 1])

    def _parts(self, place: Place, value: np.ndarray):
        if place.axis is None:
            yield place.taps[0], place.layouts[0], value
            return
        sizes = [prod(self.lengths.text[one] for one in letters_of(layout.lower()) if one in _split(place, layout))
                 for layout in place.layouts]  # fmt: skip
        if value.ndim < -place.axis or value.shape[place.axis] != sum(sizes):
            want = f"an axis of {' + '.join(map(str, sizes))} = {sum(sizes)} at {place.axis}"
            raise wanted(f"shape of {place}", "capture", want, list(value.shape))
        parts = np.split(value, np.cumsum(sizes)[:-1], place.axis)
        yield from zip(place.taps, place.layouts, parts, strict=True)

    def _aligned(self, tap: str, layout: str, value: np.ndarray, where: str) -> np.ndarray:
        axes = axes_of_value(tap, str(value.dtype), tap, where)
        left, right = sides_of(layout or written(axes), axes, tap, where)
        known, keys = self.lengths.text, self.lengths.keys
        found = fit(left, right, axes, value.shape, known, keys)
        if found is None:
            other = layouts_that_fit(axes, value.shape, known, keys)
            lengths = ", ".join(
                f"{one.upper()} = {known[one]}" for one in dict.fromkeys(letters_of(left)) if one in known
            )
            hint = f"; [{'] or ['.join(other)}] would fit" if other else ""
            want = f"[{written(left)}] with {lengths}{hint}"
            raise wanted(f"shape of {tap}", where, want, list(value.shape))
        return rearrange(value, found.pattern, **found.sizes)

    def logits(self, value: np.ndarray | None) -> None:
        """Take what the model returned as logits, if no place of the table gave them and it looks like them."""
        if "text.logits" in self.heard or not self.recorder.wants("text.logits"):
            return
        want = [self.lengths.text["b"], self.lengths.text["t"], self.config.vocabulary]
        if value is None or list(value.shape) not in (want, want[1:]):
            got = "no tensor" if value is None else list(value.shape)
            self.left_out["text.logits"] = f"wanted {want} of the model, got {got}"
            return
        self._keep("text.logits", value.reshape(want))

    def end(self, ids: Sequence[Sequence[int]], cached: int, places: Sequence[Place]) -> None:
        """End the pass; a row of the batch is a pass of its own.

        Raises:
            BadInput: nothing was heard.
        """
        self.open = False
        silent = [place for place in places if self.calls[place] <= (place.call or 0)]
        if places and len(silent) == len(places):
            want = "modules that are called in a pass"
            got = f"none of {len(places)}, such as {places[0].module or 'the model'}; a graph does not call its modules"
            raise wanted("table", "capture", want, got)
        for place in silent:
            why = f"{place.pattern} was not called" + (" so often" if self.calls[place] else "")
            self.left_out |= dict.fromkeys(place.taps, why)
        assert self.rows is not None
        abouts = []
        for own in ids:
            positions = list(range(cached, cached + len(own)))
            about = {"ids": list(own), "positions": positions, "cached": cached, "image_blocks": [], "left_pads": 0}
            abouts.append(about)
        self.rows.end_pass(abouts, [None] * len(ids))

    def write_rows(self) -> None:
        """Write what was held, the passes of one row after those of another."""
        if self.rows is not None:
            self.rows.finish()


def _split(place: Place, layout: str) -> set[str]:
    """Return the letters of a layout's axis along which several taps lie."""
    groups = re.findall(r"\([^()]*\)|\w+", layout.lower())
    assert place.axis is not None
    return set(letters_of(groups[place.axis]))


def check_ids(ids: Any, config: TextConfig) -> list[list[int]]:
    """Turn ids into rows of one length.

    Args:
        ids: [T] or [B, T] integers; lists, arrays or tensors of any library that has `tolist`.
        config: of the weights.

    Raises:
        BadInput: other shapes, or ids that the vocabulary has not.
    """
    rows = ids.tolist() if hasattr(ids, "tolist") else ids
    try:
        array = np.asarray(rows)
    except ValueError:
        array = np.empty(0)
    if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in "iu":
        raise wanted("token ids", "capture", "integers [T] or [B, T]", rows)
    bad = array[(array < 0) | (array >= config.vocabulary)]
    if bad.size:
        raise wanted("token id", "capture", f"0 to {config.vocabulary - 1}", int(bad[0]))
    return np.atleast_2d(array).tolist()


def check_taps(places: Sequence[Place], patterns: Sequence[str]) -> None:
    """Refuse patterns of which none matches a tap of the table."""
    check_patterns(patterns, [*(tap for place in places for tap in place.taps), "text.logits"], "capture")


def finish(values: Values, writer: DumpWriter) -> Path:
    """Warn of what was left out; return the dump's folder."""
    say_left_out(values.left_out)
    return writer.folder
