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


class TapMutant(NamedTuple):
    """A mistake inside the model: other rules in the place of some operations of `ref.emulate.graph`."""

    name: str  # such as rope_interleaved
    what: str
    source: str
    needs: str
    rules: dict[str, Callable[..., Any]]  # tap group -> rule
    subtle: bool = False  # may lie under the noise floor of bfloat16, so it is looked for in taps that match, too
    wide: bool = False  # rounds where others may round as well: a mistake only in a run that is wider


def everywhere(groups, rule) -> dict[str, Callable[..., Any]]:
    """Put one rule in the place of several operations."""
    return {group: rule for group in groups}
