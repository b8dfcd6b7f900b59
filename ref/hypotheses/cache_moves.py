"""What was dropped from the cache, or moved in it: rejected tokens, context shifts."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.graph import RULES
from ref.emulate.text_rules import LAYER
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of

TURNED = {0: "are not turned to their new positions", -1: "are turned the other way", 2: "are turned twice as far"}
SCORES, MIX, KEYS, VALUES = (LAYER + name for name in ("attn.scores", "attn.mix", "cache.k", "cache.v"))


def _moves(clue: Clue) -> bool:
    """Tell whether keys were moved in this pass or in one that it continues."""
    there = clue.there
    while there is not None:
        moved = there.one_pass.moved
        if moved is not None and moved.any():
            return True
        there = there.before
    return False


def _turned(clue: Clue) -> Iterator[Hypothesis]:
    """Keys that were moved to other positions are turned by another angle."""
    if not _moves(clue):
        return
    for times, words in TURNED.items():

        def rule(at, name, times=times):
            k, v = at.run.history(at.prefix, times)
            return at.ops.keep(k if name == "k" else v)

        rules = {KEYS: lambda at, rule=rule: rule(at, "k"), VALUES: lambda at, rule=rule: rule(at, "v")}
        what = f"Keys that were moved in the cache {words}."
        yield Hypothesis(mutant_of("cache_keys_turned", what, rules), (Parameter("times", times, None, 1, words),), 1)


def _dropped(clue: Clue) -> Iterator[Hypothesis]:
    """Keys that were dropped from the cache are attended to as before, and perhaps tokens are counted as before."""
    if clue.there.one_pass.kept is None or clue.there.before is None:
        return
    count = clue.there.before.one_pass.total - clue.there.one_pass.cached
    if count <= 0:
        return
    what = f"{count} keys that were dropped from the cache, as those of rejected tokens, are still attended to"
    for moved, words in ((0, ""), (count, "positions go on behind them")):
        says = f"{what}; {words}." if words else f"{what}."
        rule = {MIX: lambda at, moved=moved: _mixed_with_dropped(at, moved)}
        yield Hypothesis(mutant_of("cache_dropped_seen", says, rule), (Parameter("keys", count, None, 0, words),), 1)


def _mixed_with_dropped(at, moved: int):
    before, kept = at.run.before, at.one_pass.kept
    if before is None or kept is None:
        return RULES[MIX](at)
    old_k, old_v = before.history(at.prefix)
    dropped = np.setdiff1d(np.arange(old_k.shape[1]), kept)
    k, v, origin = at.keys()
    q = at["attn.q_rope"]
    if moved:
        table = at.places(positions=at.one_pass.positions + moved)
        q, own = (at.ops.rotate(at[name], *table) for name in ("attn.q_norm", "attn.k_norm"))
        k = np.concatenate([k[:, : k.shape[1] - own.shape[1]], at.ops.keep(own)], axis=1)
    seen = at.seen(k.shape[1], origin)
    seen = np.concatenate([np.ones((*seen.shape[:2], len(dropped)), bool), seen], axis=2)
    k, v = (np.concatenate([at.ops.keep(old[:, dropped]), own], axis=1) for old, own in ((old_k, k), (old_v, v)))
    return at.ops.attend(q, k, v, seen, at.config.query_scale)


CACHE_MOVES = (
    Family("keys that were moved", frozenset({SCORES, MIX, KEYS}), _turned),
    Family("keys that were dropped", frozenset({MIX}), _dropped),
)
