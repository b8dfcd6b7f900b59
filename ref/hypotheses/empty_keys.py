"""Keys that hold nothing yet are seen: the empty slots of a static cache, whose keys and values are zeros."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.context import as_seen
from ref.emulate.text_rules import LAYER
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.numbers import fit_number
from ref.mutants.attention import unnormed

PROBS, MIX = LAYER + "attn.probs", LAYER + "attn.mix"
NEAR, SURE = 0.02, 4.0  # by which the number may miss a whole one; in standard errors too
STARTS = tuple(2.0**power for power in range(-2, 18))
NAME = "empty_keys_seen"


def _fit(clue: Clue) -> Iterator[Hypothesis]:
    scores, one_pass = clue.input("attn.scores"), clue.there.one_pass
    keys = scores.shape[-1]
    seen = as_seen(one_pass.visible(clue.layer), keys, one_pass.total - keys, one_pass.total)
    value, truth = clue.by_token(clue.value), clue.truth
    _, whole, empty = unnormed(scores, seen)

    def model(count: float) -> np.ndarray:
        left = whole / (whole + count * empty)  # for the keys that there are
        return clue.by_token(truth * (left if clue.group == PROBS else np.swapaxes(left, 1, 2)))

    if not np.vdot(value, clue.by_token(truth)) < np.vdot(clue.by_token(truth), clue.by_token(truth)):
        return  # nothing is taken away
    count, stderr = fit_number(model, value, STARTS)
    n = round(count)
    if n < 2 or stderr > 0.25 or abs(count - n) > max(NEAR, SURE * stderr):
        return  # of one it is a sink, which the catalogue has

    def rule(at):
        scores = at["attn.scores"]
        seen = at.seen(scores.shape[-1], at.one_pass.total - scores.shape[-1])
        weights, whole, empty = unnormed(scores, seen)
        return at.ops.round((weights / (whole + n * empty)).astype(at.ops.dtype))

    what = f"{n} keys that hold nothing are seen: empty slots of the cache, with a score of 0."
    yield Hypothesis(mutant_of(NAME, what, {PROBS: rule}), (Parameter("n", n, None, 0),), 1)


EMPTY_KEYS = (Family("empty_keys", frozenset({PROBS, MIX}), _fit),)
