"""What a mutant is: a mistake that people really make in porting Gemma 3, as something that can be run."""

from collections.abc import Callable
from typing import Any, NamedTuple


class RuleMutant(NamedTuple):
    """A mistake in a rule without weights: crop boxes, visibility, pixels, prompts."""

    name: str  # such as crops_threshold_1.5
    what: str  # one sentence that a porter understands
    source: str  # where the mistake was made: a section of the specification, or a thread
    needs: str  # what input shows it
    run: Callable[..., Any]  # as the rule itself
