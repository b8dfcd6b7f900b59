"""Mistakes with a number in operations that a dump does not show: run on the way from the taps before to the one after.

Fused attention has no scores, many dumps have only what leaves a layer. What `ref.hypotheses` reads off a tap is not
there; the number is fitted by running the operations in between, as it is from logits alone.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ref.diagnosis.evidence import mutated
from ref.from_logits.candidates import Candidate
from ref.from_logits.families import FAMILIES, HORIZON, WINDOW
from ref.from_logits.fit import fitted
from ref.from_logits.lacking import lacking
from ref.from_logits.parameters import Family, grid_of
from ref.from_logits.runs import Text
from ref.from_logits.score import Halves
from ref.from_logits.trial import Measures, Tried, first_off
from ref.hypotheses.hypothesis import Clue, Hypothesis
from ref.measure.parallel import side_by_side
from ref.model.taps import tap_group

BEHIND = "operations that are not in the dump"
BEST = 4  # candidates that are measured with a floor of their own
SAME = 1e-9  # share of the error below which a candidate changes nothing


class Way:
    """What candidates are tried on: one tap, and the operations from the last taps before it that a dump has.

    Args:
        clue: at the tap.
    """

    def __init__(self, clue: Clue):
        self.clue = clue
        self.text = Text((clue.there.one_pass,), (None,))
        value, truth = clue.by_token(clue.value), clue.by_token(clue.truth)
        floor = clue.found.floor
        square = (floor.distance.whole if floor else 0.0) ** 2 * float(np.square(truth).mean())
        self.measures = Measures(value, truth, np.full(truth.shape, square), Halves.of(value))

    def tell(self, total: int) -> None:
        """Take no note of how many candidates come: this takes moments."""

    def onset(self, model: np.ndarray) -> int | None:
        """Return the position of the first token that a model has otherwise; None where tokens are no rows."""
        one_pass, tokens = self.clue.there.one_pass, self.clue.tokens()
        first = first_off(self.measures, model, len(tokens)) if not self.clue.tap.startswith("vision.") else None
        return int(one_pass.positions[0, tokens[first]]) if first else None

    def try_all(self, candidates: Sequence[Candidate]) -> list[Tried]:
        """Run candidates and score them, in their order."""
        models = side_by_side(self._model, candidates)
        return [Tried(one, self.measures.score(m), m) for one, m in zip(candidates, models, strict=True)]

    def _model(self, candidate: Candidate) -> np.ndarray:
        found = mutated(self.clue.there, self.clue.there.local, candidate.mutant, self.clue.tap)
        if found is None or found.shape != self.clue.value.shape:
            return self.measures.truth
        return self.clue.by_token(found)


def hidden_families(clue: Clue, span: Sequence[str]) -> list[Family]:
    """List the families whose operations lie on the way to a tap, and nowhere that the dump shows.

    Args:
        clue: at the tap.
        span: the operations before it that are not in the dump.
    """
    groups, config = {tap_group(one) for one in span}, clue.config
    kinds = {"all"} | ({"global" if config.is_global(clue.layer) else "local"} if clue.layer >= 0 else set())
    found = []
    for one in [*FAMILIES, WINDOW, HORIZON]:
        rules = one.rules(next(iter(one.grid(config))))
        if one.kind in kinds and groups & set(rules) and not lacking(one.needs, [clue.there.one_pass]):
            found.append(one)
    return found


def behind(clue: Clue, span: Sequence[str]) -> Iterator[Hypothesis]:
    """Fit the numbers of mistakes on the way to a tap; the best first.

    Args:
        clue: at the tap.
        span: the operations before it that are not in the dump.
    """
    way = Way(clue)
    grid = [
        one
        for family in hidden_families(clue, span)
        for one in grid_of(family, clue.config, way.onset(way.measures.truth))
    ]
    tried = way.try_all(grid)
    found = [*tried, *fitted(way, tried)]
    best: dict[tuple, Tried] = {}
    for one in sorted(found, key=lambda one: -one.score.heldout):
        best.setdefault((one.candidate.name, one.candidate.layers), one)
    for one in list(best.values())[:BEST]:
        if one.score.heldout > SAME and one.candidate.is_sure:
            yield Hypothesis(one.candidate.mutant, one.candidate.parameters, 1)
