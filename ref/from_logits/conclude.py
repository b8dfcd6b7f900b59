"""What the search ends in: the best candidates run once more in float64, with floors of their own, and the verdicts."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ref.emulate.arithmetic import TRUTH
from ref.from_logits.candidates import Candidate
from ref.from_logits.score import Score, in_floors, squares
from ref.from_logits.trial import Trial, Tried, worst
from ref.hypotheses.lists import in_spans
from ref.measure.floor import LIMIT

FINALISTS, SHOWN = 8, 10
MEMBERS = (1, 3)  # valid runs of a mistake that make its floor: two policies, two orders
# share that a mistake must explain to be named above noise, and how many times less than the next one it must leave
ENOUGH, MORE = 0.5, 10.0
ALL = 1 - 1e-6  # share of the squared distance that is all of it but for a mistake's own noise


class Final(NamedTuple):
    """A candidate measured with a floor of its own."""

    candidate: Candidate
    score: Score
    model: np.ndarray
    noise: float  # squared, over all that is known

    @property
    def explains(self) -> bool:
        """Tell whether it leaves noise only, with a number that is known well enough to be a wrong one."""
        return self.score.left <= LIMIT and self.candidate.is_sure


def ranked(found: Iterable[Tried]) -> list[Tried]:
    """Sort candidates by how much of the held-out half they explain; the same mistake comes once, at its best.

    Args:
        found: candidates; of a mistake with a number each number is one.
    """
    out: dict[tuple, Tried] = {}
    for one in sorted(found, key=_order):
        out.setdefault((one.candidate.name, one.candidate.layers), one)
    return list(out.values())


def _order(one: Tried | Final) -> tuple:
    """Sort by the rest; where several leave noise only, the simplest first: no number, then all layers."""
    explained = one.score.left <= LIMIT
    simple = (len(one.candidate.parameters), one.candidate.layers is not None) if explained else (0, False)
    return (not explained, *simple, -_finite(one.score.heldout), -_finite(one.score.explains))


def _finite(value: float) -> float:
    return value if np.isfinite(value) else -1e300


def is_explained(found: Score) -> bool:
    """Tell whether a candidate leaves noise, or so little that only its own noise, if it has more, can be left."""
    return found.left <= LIMIT or found.heldout >= ALL


def conclude(trial: Trial, found: list[Tried]) -> list[dict[str, Any]]:
    """Turn candidates into rows of the report, the best first.

    Args:
        trial: what they were tried on.
        found: all of them.

    Returns:
        Rows; those that changed nothing, and those that explain nothing, are left out.
    """
    loud = [one for one in ranked(found) if not trial.measures.is_silent(one.model) and one.score.explains > 0]
    # beside one that leaves next to nothing all others are far off: nobody needs to know how far in float64
    last = min(FINALISTS, sum(is_explained(one.score) for one in loud)) or FINALISTS
    finals = _merged(sorted(_finals(trial, loud[:last]), key=_order))
    classes = _classes(finals)
    words = _verdicts(finals, classes)
    rows = [_row(i, words[i], finals, classes) for i in range(len(finals))]
    rest = [_plain(one.candidate, one.score, "unexplained", []) for one in loud[last:SHOWN]]
    return rows + rest


def _finals(trial: Trial, best: list[Tried]) -> list[Final]:
    """Run candidates in float64, and valid runs of each mistake: some make noise larger."""
    candidates = [one.candidate for one in best]
    if not candidates:
        return []
    models = trial.models(candidates, TRUTH)
    several = [trial.models(candidates, trial.members[number]) for number in MEMBERS]
    measures, out = trial.measures, []
    for number, (candidate, model) in enumerate(zip(candidates, models, strict=True)):
        own = worst(model, [valid[number] for valid in several], measures.known)
        held = max(float(x.sum(where=measures.halves.heldout)) for x in (own, measures.noise))
        every = max(float(x.sum(where=measures.known)) for x in (own, measures.noise))
        found = measures.score(model)
        left = in_floors(squares(measures.value, model, measures.halves.heldout), held)
        out.append(Final(candidate, found._replace(left=left), model, every))
    return out


def _classes(finals: list[Final]) -> list[int]:
    """Number what this answer cannot tell apart: closer to each other than their noise."""
    out: list[int] = []
    for number, one in enumerate(finals):
        same = (
            out[i]
            for i, other in enumerate(finals[:number])
            if squares(one.model, other.model, np.isfinite(one.model)) <= max(one.noise, other.noise)
        )
        out.append(next(same, number))
    return out


def _merged(finals: list[Final]) -> list[Final]:
    """Give a mistake of the catalogue the number of a family that says the same of the same operations."""
    classes, out = _classes(finals), dict(enumerate(finals))
    for i, one in enumerate(finals):
        same = [j for j, number in enumerate(classes) if number == classes[i] and not finals[j].candidate.family]
        same = [j for j in same if _meet(one.candidate, finals[j].candidate)]
        if one.candidate.family and same:
            named = out[same[0]].candidate
            named = named._replace(parameters=named.parameters or one.candidate.parameters)
            out[same[0]] = out[same[0]]._replace(candidate=named)
            del out[i]
    return list(out.values())


def _meet(a: Candidate, b: Candidate) -> bool:
    return bool(set(a.mutant.rules) & set(b.mutant.rules))


def _verdicts(finals: list[Final], classes: list[int]) -> list[str]:
    """Name the best where it leaves noise only and no other does, or far less than the next; else tied, or nothing."""
    if not finals:
        return []
    first, best = finals[0], [i for i, one in enumerate(finals) if one.explains]
    if not best:
        others = [one.score.heldout for one, number in zip(finals, classes, strict=True) if number != classes[0]]
        next_rest = 1 - max(others, default=0.0)
        far = first.score.heldout >= ENOUGH and (1 - first.score.heldout) * MORE <= next_rest
        alone = far and first.candidate.is_sure
        best = [i for i, number in enumerate(classes) if number == classes[0]] if alone else []
    word = "tied" if len(best) > 1 else "named"
    return [word if i in best else "unexplained" for i in range(len(finals))]


def _row(place: int, word: str, finals: list[Final], classes: list[int]) -> dict[str, Any]:
    one, same = finals[place], []
    for i, other in enumerate(finals):
        both = word == "tied" and one.explains and other.explains
        if i != place and (classes[i] == classes[place] or both):
            same.append(label(other.candidate))
    return _plain(one.candidate, one.score, word, same)


def _plain(candidate: Candidate, score: Score, word: str, same: list[str]) -> dict[str, Any]:
    numbers = {"explains": score.explains, "heldout": score.heldout, "left": score.left}
    return candidate.describe() | numbers | {"verdict": word, "tied_with": same}


def label(candidate: Candidate) -> str:
    """Return a candidate's name, with its layers where it has some."""
    if candidate.layers is None:
        return candidate.name
    noun = "layer" if len(candidate.layers) == 1 else "layers"
    return f"{candidate.name} in {noun} {', '.join(in_spans(sorted(candidate.layers), '-'))}"
