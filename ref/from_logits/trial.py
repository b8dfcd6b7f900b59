"""Trying candidates on an answer: the truth and the noise it is measured with, and every candidate's score."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ref.emulate.arithmetic import TRUTH, Arithmetic, emulate
from ref.emulate.policy import members_of
from ref.from_logits.answers import Answer
from ref.from_logits.candidates import Candidate
from ref.from_logits.runs import QUICK, Text, run_all
from ref.from_logits.score import Halves, Score, in_floors, score, squares
from ref.measure.floor import LIMIT

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded

MANY = 128  # tokens beyond which three valid runs make the floor, not six
AT_ONCE = 64  # candidates that go through the model together: they hold their layer's values meanwhile
OFF = 25.0  # times its noise, both squared, that a row is off by
ROWS, SEEN = 4, 4.0  # of a beginning: tokens that must be known in it, and floors that they must be off


class Tried(NamedTuple):
    """A candidate and what it makes of the answer."""

    candidate: Candidate
    score: Score
    model: np.ndarray  # [R, C] what it gives


class Measures(NamedTuple):
    """An answer beside the truth."""

    value: np.ndarray  # [R, C]
    truth: np.ndarray
    noise: np.ndarray  # [R, C] squared error of the worst valid run
    halves: Halves

    @property
    def known(self) -> np.ndarray:
        """[R, C] bool."""
        return self.halves.fitted | self.halves.heldout

    @property
    def off(self) -> float:
        """How far off the answer is, in floors."""
        return in_floors(squares(self.value, self.truth, self.known), float(self.noise.sum(where=self.known)))

    def score(self, model: np.ndarray) -> Score:
        """Score what a candidate gives."""
        noise = float(self.noise.sum(where=self.halves.heldout))
        return score(self.value, self.truth, model, noise, self.halves)

    def is_silent(self, model: np.ndarray) -> bool:
        """Tell whether a candidate changes nothing beyond noise."""
        return squares(model, self.truth, self.known) <= LIMIT**2 * float(self.noise.sum(where=self.known))


class Trial:
    """What candidates are tried on: an answer, and the text that it is of.

    Args:
        loaded: the weights.
        text: the passes.
        answer: what is known of their output.
        family: whose valid runs make the noise floor.
        progress: called with a number of done and of all candidates.
    """

    def __init__(
        self,
        loaded: "Loaded",
        text: Text,
        answer: Answer,
        family: str,
        progress: Callable[[int, int], Any] | None = None,
    ):
        self.loaded, self.text, self.answer, self.family, self.progress = loaded, text, answer, family, progress
        self.done, self.total = 0, 0
        value, truth = answer.values, self.model()
        self.members = [emulate(*member) for member in members_of(family)]
        some = self.members[: len(self.members) // 2] if text.tokens > MANY else self.members
        # two at a time would need the weights of two arithmetics: one after the other
        valid = [self.model(member) for member in some]
        halves = Halves.of(value)
        noise = worst(truth, valid, halves.fitted | halves.heldout) + answer.step**2 / 12
        self.measures = Measures(value, truth, noise, halves)

    def beginning(self, tokens: int) -> "Trial":
        """Return the same trial on the first tokens, or itself where too little is known of them."""
        text = self.text.beginning(tokens)
        if text is self.text or self.answer.kind == "greedy":
            return self
        answer = self.answer.beginning(tokens)
        rows = len(answer.known[0].rows)
        value, truth, noise = (x[:rows] for x in self.measures[:3])
        measures = Measures(value, truth, noise, Halves.of(value))
        if rows < ROWS or measures.off < SEEN:
            return self
        other = object.__new__(Trial)
        other.__dict__ |= self.__dict__ | {"text": text, "answer": answer, "measures": measures}
        return other

    def model(self, arithmetic: Arithmetic = TRUTH) -> np.ndarray:
        """Return what the model without a mistake gives, [R, C]."""
        return self.answer.read(run_all(self.loaded, self.text, [], arithmetic))[0]

    def models(self, candidates: Sequence[Candidate], arithmetic: Arithmetic = QUICK) -> list[np.ndarray]:
        """Return what each candidate gives, [R, C] each."""
        return self.answer.read(run_all(self.loaded, self.text, candidates, arithmetic))[1:]

    def tell(self, total: int) -> None:
        """Say that so many candidates more are to be tried."""
        self.total += total

    def onset(self, model: np.ndarray) -> int | None:
        """Return the position of the first token that a model has otherwise; None where not each token is known."""
        rows = self.answer.known[0].rows
        first = first_off(self.measures, model, len(rows))
        whole = len(rows) > 1 and bool((np.diff(rows) == 1).all())
        return int(rows[first]) if whole and first else None

    def try_all(self, candidates: Sequence[Candidate]) -> list[Tried]:
        """Run candidates and score them, in their order; some go through the model together."""
        found = []
        for start in range(0, len(candidates), AT_ONCE):
            some = candidates[start : start + AT_ONCE]
            models = self.models(some)
            found += [Tried(one, self.measures.score(m), m) for one, m in zip(some, models, strict=True)]
            self.done += len(some)
            if self.progress:
                self.progress(self.done, max(self.total, self.done))
        return found


def first_off(measures: Measures, model: np.ndarray, rows: int) -> int | None:
    """Return the first row of an answer that a model has otherwise, beyond noise; None where it has all.

    Args:
        measures: the answer, [R, C].
        model: [R, C] what a candidate gives.
        rows: how many to look at.
    """
    with np.errstate(all="ignore"):
        error = np.square(measures.value - model).sum(axis=1, where=measures.known)[:rows]
    noise = measures.noise.sum(axis=1, where=measures.known)[:rows]
    bad = np.flatnonzero(error > OFF * np.maximum(noise, np.median(noise)))
    return int(bad[0]) if bad.size else None


def worst(truth: np.ndarray, valid: Sequence[np.ndarray], known: np.ndarray) -> np.ndarray:
    """Return the squared error of the valid run that is farthest from the truth.

    Args:
        truth: [R, C].
        valid: [R, C] of each valid run.
        known: [R, C] bool.
    """
    finite = [one for one in valid if np.isfinite(one[known]).all()]
    if not finite:
        return np.zeros(truth.shape)
    return max((np.square(one - truth) for one in finite), key=lambda square: float(square.sum(where=known)))
