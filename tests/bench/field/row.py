"""What a row of the bench is: a way to make one dump of a clean run, and the weights it is judged against."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ref.weights.resolve import Loaded

Plant = Callable[[Any, Loaded], Any]  # patches a copy of the model; may return what takes it back


class Row(NamedTuple):
    """One clean capture.

    Args:
        name: kind/size/dtype/what; what `--only` matches.
        dtype: of the model that is captured.
        size: which model.
        write: (folder, plant) -> weights: captures into a new folder. `plant` is None, or patches the model first.
        device: where it ran.
        plantable: whether `write` can plant.
        counted: whether it is one of those that must match; the others are printed and stay out of the sum.
        nightly: whether it belongs to the quick subset.
    """

    name: str
    dtype: str
    size: str
    write: Callable[[Path, Plant | None], Loaded]
    device: str = "cpu"
    plantable: bool = False
    counted: bool = True
    nightly: bool = False


class Missing(Exception):
    """A row cannot be captured here: what is missing, in one line."""
