"""What a mutant is: a mistake that people really make in porting Gemma 3, as something that can be run."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ref.mutants.needs import Needs
from ref.mutants.seen_in import Sighting, sightings


class RuleMutant(NamedTuple):
    """A mistake in a rule without weights: crop boxes, visibility, pixels, prompts."""

    name: str  # such as crops_threshold_1.5
    what: str  # one sentence that a porter understands
    needs: Needs  # what input shows it
    run: Callable[..., Any]  # as the rule itself

    @property
    def seen_in(self) -> tuple[Sighting, ...]:
        """Return where the mistake was really made; nothing where it is plausible and was not seen yet."""
        return sightings().get(self.name, ())


class TapMutant(NamedTuple):
    """A mistake inside the model: other rules in the place of some operations of `ref.emulate.graph`."""

    name: str  # such as rope_interleaved
    what: str
    needs: Needs
    rules: dict[str, Callable[..., Any]]  # tap group -> rule
    subtle: bool = False  # may lie under the noise floor of bfloat16, so it is looked for in taps that match, too
    wide: bool = False  # rounds where others may round as well: a mistake only in a run that is wider

    @property
    def seen_in(self) -> tuple[Sighting, ...]:
        """Return where the mistake was really made; nothing where it is plausible and was not seen yet."""
        return sightings().get(self.name, ())


def describe(mutant: TapMutant | RuleMutant) -> dict[str, Any]:
    """Return what a report says of a mistake itself, before any figures.

    Args:
        mutant: the mistake.

    Returns:
        `mutant`, its name; `what`; `seen_in`, a list such as ["owner/name#12"]; `needs`, in words.
    """
    places = [one.where for one in mutant.seen_in]
    return {"mutant": mutant.name, "what": mutant.what, "seen_in": places, "needs": mutant.needs.words}


def everywhere(groups, rule) -> dict[str, Callable[..., Any]]:
    """Put one rule in the place of several operations."""
    return {group: rule for group in groups}
