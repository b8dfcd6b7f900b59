"""Candidates: mistakes of the catalogue and of free numbers, in all layers, in those of one kind, or in one."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ref.emulate.one_pass import OnePass
from ref.emulate.stages import Stage
from ref.emulate.text_rules import LAYER
from ref.from_logits.lacking import hidden_in, lacking
from ref.hypotheses.foreign import TIED_HEAD
from ref.hypotheses.hypothesis import Parameter
from ref.mutants import tap_mutants
from ref.mutants.base import TapMutant, describe

SURE = 4.0  # standard errors by which a fitted number must differ from the right one to be named


class Candidate(NamedTuple):
    """One mistake that is run from the prompt."""

    mutant: TapMutant
    layers: frozenset[int] | None = None  # where it is made; None: wherever its rules stand
    parameters: tuple[Parameter, ...] = ()
    family: str = ""  # of a free number; empty: of the catalogue

    @property
    def name(self) -> str:
        """The mistake's name."""
        return self.mutant.name

    @property
    def key(self) -> tuple:
        """What no other candidate has."""
        return self.name, self.layers, tuple(str(one.value) for one in self.parameters)

    @property
    def is_sure(self) -> bool:
        """Tell whether each fitted number differs from the right one by more than its own error could make.

        A softcap has no right number: its size stands in, so that 3.5 with a standard error of 7 is none.
        """
        return all(
            one.stderr is None
            or SURE * one.stderr < abs(one.value - (0 if isinstance(one.wanted, str) else one.wanted))
            for one in self.parameters
        )

    def rules_in(self, stage: Stage) -> dict[str, Any]:
        """Return the rules that stand in for the graph's own during a stage."""
        return self.mutant.rules if self.layers is None or stage.layer in self.layers else {}

    def starts_at(self, stage: Stage) -> bool:
        """Tell whether a stage, of those in the order of execution, is one that the mistake may change."""
        groups = self.mutant.rules
        if self.layers is not None:
            return stage.layer in self.layers and stage.name == "layer"
        ends = {"embed": ("text.embed", "model.merged"), "final": ("text.final_norm",), "logits": ("text.logits",)}
        if stage.name == "layer":
            return any(group.startswith(LAYER) for group in groups)
        return any(group in groups for group in ends.get(stage.name, ()))

    def describe(self) -> dict[str, Any]:
        """Return what a report says of it before any figures."""
        layers = None if self.layers is None else sorted(self.layers)
        return describe(self.mutant) | {"layers": layers, "parameters": [one.as_json() for one in self.parameters]}


def catalogue(passes: Sequence[OnePass], kind: str) -> tuple[list[Candidate], list[dict[str, str]]]:
    """List the catalogue's mistakes that a text model may have, each wherever its rules stand.

    Args:
        passes: that they would be run on.
        kind: of the answer that they are to explain.

    Returns:
        (candidates, those that are not tried: {"family", "why"}).
    """
    some, left = [], []
    for one in tap_mutants().values():
        if not any(group.startswith(("text.", "model.")) for group in one.rules):
            continue
        if why := lacking(one.needs, passes, one.rules) or hidden_in(kind, one.name):
            left.append({"family": one.name, "why": f"needs {why}"})
        else:
            some.append(Candidate(one))
    if passes[0].text.head is not None:
        some.append(Candidate(TIED_HEAD.mutant, None, TIED_HEAD.parameters))
    return some, left


def of_one_kind(candidates: Iterable[Candidate], passes: Sequence[OnePass]) -> list[Candidate]:
    """List mistakes made in the local layers only, and in the global layers only."""
    config = passes[0].config
    kinds = [
        frozenset(i for i in range(config.layers) if config.is_global(i) == is_global) for is_global in (False, True)
    ]
    return [one._replace(layers=kind) for one in candidates if _in_layers(one) for kind in kinds if kind]


def of_one_layer(candidates: Iterable[Candidate], passes: Sequence[OnePass]) -> list[Candidate]:
    """List mistakes made in one layer only, for each layer."""
    layers = range(passes[0].config.layers)
    return [one._replace(layers=frozenset([i])) for one in candidates if _in_layers(one) for i in layers]


def _in_layers(candidate: Candidate) -> bool:
    """Tell whether a mistake may be made in some layers: what a layer is given is made in the one before."""
    groups = candidate.mutant.rules
    return candidate.layers is None and LAYER + "in" not in groups and any(one.startswith(LAYER) for one in groups)
