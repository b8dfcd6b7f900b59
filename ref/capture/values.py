"""What hooks of a table report to: values are copied at once, brought to the registry's axes and written."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
from einops import rearrange

from ref.capture.common import aligned, say_left_out
from ref.capture.passes import Pass, lengths_of_pass, passes, pixels_of, rows_of
from ref.capture.places import Place
from ref.capture.prompts import Prompt
from ref.capture.rows import Rows
from ref.config import TextConfig, VisionConfig
from ref.dump.layouts import axes_of_value, fit, layouts_that_fit, lengths_at, letters_of, sides_of, written
from ref.dump.write import DumpWriter, axes_of
from ref.errors import wanted
from ref.model.taps import Recorder, check_patterns


class Values:
    """Takes the values of one pass after another.

    Args:
        writer: the dump.
        config: of the weights: lengths of axes.
        patterns: which taps.
        vision: of the weights' tower; None where it has no part in the run.
    """

    def __init__(
        self, writer: DumpWriter, config: TextConfig, patterns: Sequence[str], vision: VisionConfig | None = None
    ):
        self.writer, self.config, self.recorder, self.vision = writer, config, Recorder(*patterns), vision
        self.left_out: dict[str, str] = {}
        self.dtype = ""  # of the first product
        self.open = False
        self.rows: Rows | None = None

    def run(
        self, prompt: Prompt, steps: int, places: Sequence[Place], model: Callable[[Pass], np.ndarray | None]
    ) -> None:
        """Run a prompt and its steps, each a pass, and write what was heard.

        Args:
            prompt, steps: as `ref.capture.passes.passes`.
            places: of the table, which should be heard.
            model: runs a pass, and returns its logits; None where there are none.

        Raises:
            BadInput: as `passes` and `end`.
        """

        def one_pass(at: Pass) -> np.ndarray | None:
            self.begin(prompt, at)
            logits = model(at)
            self.logits(logits)
            self.end(places)
            return logits

        passes(prompt, steps, one_pass)
        if self.rows is not None:
            self.rows.finish()

    def begin(self, prompt: Prompt, at: Pass) -> None:
        """Begin a pass.

        Args:
            prompt: the rows that are run.
            at: their prompt, or a step after it.
        """
        self.lengths = lengths_of_pass(self.config, self.vision, at)
        self.prompt, self.at = prompt, at
        self.calls: Counter[Place] = Counter()
        self.heard: set[str] = set()
        self.rows = self.rows or Rows(self.writer, len(at.ids))
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
        due = self.open and not (place.of_image and self.at.pixels is None)
        right = due and place.call in (None, number)
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
        of_image = tap.startswith("vision.")
        for row, images in enumerate(self.prompt.images):
            part = whole[images] if of_image else whole[row : row + 1]
            if images.stop > images.start or not (of_image or tap == "model.merged"):
                self.rows.keep(row, tap, self._in_window(tap, part))

    def _in_window(self, tap: str, value: np.ndarray) -> np.ndarray:
        """Cut values of every key to the keys that our cache has; a model may have let go of the others itself."""
        axes, stop = axes_of(tap).split(), self.at.mask.shape[1]
        if "S" in axes and value.shape[axes.index("S")] == stop:
            return aligned(tap, value, self.config, self.at.cached, stop)
        return value

    def _parts(self, place: Place, value: np.ndarray):
        if place.axis is None:
            yield place.taps[0], place.layouts[0], value
            return
        lengths = lengths_at(place.taps[0], self.lengths)
        sizes = [prod(lengths[one] for one in letters_of(layout.lower()) if one in _split(place, layout))
                 for layout in place.layouts]  # fmt: skip
        if value.ndim < -place.axis or value.shape[place.axis] != sum(sizes):
            want = f"an axis of {' + '.join(map(str, sizes))} = {sum(sizes)} at {place.axis}"
            raise wanted(f"shape of {place}", "capture", want, list(value.shape))
        parts = np.split(value, np.cumsum(sizes)[:-1], place.axis)
        yield from zip(place.taps, place.layouts, parts, strict=True)

    def _aligned(self, tap: str, layout: str, value: np.ndarray, where: str) -> np.ndarray:
        axes = axes_of_value(tap, str(value.dtype), tap, where)
        left, right = sides_of(layout or written(axes), axes, tap, where)
        known, keys = lengths_at(tap, self.lengths), self.lengths.keys
        value = _patches_in_one_axis(left, value, known)
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

    def end(self, places: Sequence[Place]) -> None:
        """End the pass; a row of the batch is a pass of its own.

        Args:
            places: of the table, which should have been heard.

        Raises:
            BadInput: nothing was heard.
        """
        self.open = False
        due = [place for place in places if self.at.pixels is not None or not place.of_image]
        silent = [place for place in due if self.calls[place] <= (place.call or 0)]
        if due and len(silent) == len(due):
            want = "modules that are called in a pass"
            got = f"none of {len(due)}, such as {due[0].module or 'the model'}; a graph does not call its modules"
            raise wanted("table", "capture", want, got)
        for place in silent:
            why = f"{place.pattern} was not called" + (" so often" if self.calls[place] else "")
            self.left_out |= dict.fromkeys(place.taps, why)
        assert self.rows is not None
        self.rows.end_pass(rows_of(self.prompt, self.at), pixels_of(self.prompt, self.at))


def _split(place: Place, layout: str) -> set[str]:
    """Return the letters of a layout's axis along which several taps lie."""
    groups = re.findall(r"\([^()]*\)|\w+", layout.lower())
    assert place.axis is not None
    return set(letters_of(groups[place.axis]))


def _patches_in_one_axis(layout: str, value: np.ndarray, known: Mapping[str, int]) -> np.ndarray:
    """Return a value whose patches lie in one axis: a convolution makes a grid of them."""
    axes, shape = layout.split(), list(value.shape)
    if "p" not in axes or value.ndim != len(axes) + 1:
        return value
    at = axes.index("p")
    return (
        value.reshape([*shape[:at], known["p"], *shape[at + 2 :]]) if prod(shape[at : at + 2]) == known["p"] else value
    )


def check_taps(places: Sequence[Place], patterns: Sequence[str]) -> None:
    """Refuse patterns of which none matches a tap of the table."""
    check_patterns(patterns, [*(tap for place in places for tap in place.taps), "text.logits"], "capture")


def finish(values: Values, writer: DumpWriter) -> Path:
    """Warn of what was left out; return the dump's folder."""
    say_left_out(values.left_out)
    return writer.folder
