"""What queries see: the window of local layers, the horizon of global ones, keys that are missing or too many."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.context import as_seen
from ref.emulate.text_rules import LAYER
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.lists import cut_off, in_spans
from ref.measure.measure_tap import Measured
from ref.measure.pass_runs import PassRuns

VISIBLE = LAYER + "attn.visible"
MOST_SPANS = 4  # of keys or queries that are listed in words


def seen_hypotheses(there: PassRuns, tap: str, found: Measured) -> Iterator[Hypothesis]:
    """Read the window off what each query sees.

    Args:
        there: the pass, while its runs hold the tap's inputs.
        tap: `text.layer.*.attn.visible`.
        found: what was measured there; its value is [1, T, S] of booleans as floats.
    """
    value, truth = found.value, found.truth
    if value is None or truth is None:
        return
    one_pass = there.one_pass
    keys = value.shape[-1]
    seen, right = value[0] > 0, truth[0] > 0
    query = one_pass.cached + np.flatnonzero(one_pass.valid)
    key = one_pass.total - keys + np.arange(keys)
    ago = query[:, None] - key[None]
    past = seen & (ago >= 0)
    if not past.any():
        return
    reach = int(ago[past].max()) + 1
    windowed = (ago < reach) & (ago >= 0) & (key[None] >= one_pass.first[0][one_pass.valid][:, None])
    block = right & (ago < 0)
    if np.array_equal(seen, windowed | (block & (ago > -reach))) or np.array_equal(seen, windowed | block):
        yield _of_reach(reach, one_pass.config.window_of(int(tap.split(".")[2])))
    yield from _described(one_pass, seen, right, query, key, tap)


def _of_reach(reach: int, own: int | None) -> Hypothesis:
    """Return the mistake of a layer whose queries see so many keys; `own` is its window, None of a global one."""
    name, kind = ("horizon", "global") if own is None else ("window", "local")
    what = f"A {kind} layer sees {reach} keys, not {'all' if own is None else own}."
    rule = {VISIBLE: lambda at: at.one_pass.visible(at.layer, window=reach)}
    return Hypothesis(mutant_of(name, what, rule), (Parameter("n", reach, None, own),), 1)


def _described(one_pass, seen, right, query, key, tap) -> Iterator[Hypothesis]:
    """Say which keys are hidden from, or shown to, every query that they are wrong for."""
    hidden, shown = right & ~seen, seen & ~right
    for wrong, name, what in ((hidden, "keys_hidden", "hidden from"), (shown, "keys_shown", "shown to")):
        other = shown if wrong is hidden else hidden
        if not wrong.any() or other.any():
            continue
        keys, queries = np.flatnonzero(wrong.any(axis=0)), np.flatnonzero(wrong.any(axis=1))
        block = np.zeros_like(wrong)
        block[np.ix_(queries, keys)] = True
        whole = np.array_equal(wrong, block & (right if wrong is hidden else ~right))
        if not whole:
            continue
        places = cut_off(in_spans(key[keys].tolist()), MOST_SPANS)
        words = f"keys {places} are {what} queries {cut_off(in_spans(query[queries].tolist()), MOST_SPANS)}"
        first, last = int(key[keys][0]), int(key[keys][-1])

        def rule(at, wrong=wrong, name=name):
            total = at.one_pass.total
            matrix = as_seen(at.one_pass.visible(at.layer), wrong.shape[-1], total - wrong.shape[-1], total).copy()
            rows = np.flatnonzero(at.one_pass.valid)
            if len(rows) == len(wrong):
                matrix[0, rows] = matrix[0, rows] & ~wrong if name == "keys_hidden" else matrix[0, rows] | wrong
            return matrix

        yield Hypothesis(
            mutant_of(name, words[0].upper() + words[1:] + ".", {VISIBLE: rule}),
            (Parameter("keys", [first, last], None, None, places),),
            3,
        )


def _through_probs(clue: Clue) -> Iterator[Hypothesis]:
    """Where the dump does not say what is seen, the weights that are 0 do."""
    if clue.there.local.is_given(clue.prefix + "attn.visible"):
        return
    one_pass = clue.there.one_pass
    weights = clue.value[0]
    seen = (weights > 0).any(axis=0)[one_pass.valid]
    keys = weights.shape[-1]
    ago = (one_pass.cached + np.flatnonzero(one_pass.valid))[:, None] - (one_pass.total - keys + np.arange(keys))[None]
    past = seen & (ago >= 0)
    if not past.any() or one_pass.places.any():
        return
    reach = int(ago[past].max()) + 1
    own = one_pass.config.window_of(clue.layer)
    if reach == (own or 0) or reach >= one_pass.total:
        return
    yield _of_reach(reach, own)


SEEN = (Family("what is seen", frozenset({LAYER + "attn.probs"}), _through_probs),)
