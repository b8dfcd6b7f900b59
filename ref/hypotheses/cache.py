"""What the cache holds: which slot has whose key or value."""

from collections.abc import Iterator

import numpy as np

from ref.emulate.text_rules import LAYER
from ref.hypotheses.hypothesis import Clue, Family, Hypothesis, Parameter, mutant_of
from ref.hypotheses.lists import cut_off

CACHES = (LAYER + "cache.k", LAYER + "cache.v")
ALIKE = 0.99  # cosine from which a slot holds a row
SLOTS = 4096


def slots_of(clue: Clue) -> np.ndarray | None:
    """Return for each slot of a dump's cache which of the true rows it holds; -1 where it holds none, -2 zeros."""
    y, t = (x[0].reshape(x.shape[1], -1) for x in (clue.value, clue.truth))
    if len(y) > SLOTS:
        return None
    size = np.linalg.norm(y, axis=1)
    a = y / np.maximum(size, 1e-300)[:, None]
    b = t / np.maximum(np.linalg.norm(t, axis=1), 1e-300)[:, None]
    alike = a @ b.T
    own = np.arange(len(y))
    best = alike.argmax(axis=1)
    best = np.where(alike[own, own] >= alike[own, best] - 1e-6, own, best)
    held = np.where(alike[own, best] > ALIKE, best, -1)
    return np.where(size == 0, -2, held)


def _slots(clue: Clue) -> Iterator[Hypothesis]:
    held = slots_of(clue)
    if held is None or (held == np.arange(len(held))).all() or (held == -1).all():
        return
    which = clue.tap.split(".")[-1]
    name, parameter, words = _pattern(held, clue.there.one_pass.cached)
    foreign = np.flatnonzero(held == -1)
    stale = clue.value[0][foreign]

    def rule(at):
        k, v = at.run.history(at.prefix)
        x = at.ops.keep(k if which == "k" else v)
        newest = x[:, max(0, x.shape[1] - len(held)) :]
        if newest.shape[1] != len(held):
            return x
        out = np.where((held >= 0)[None, :, None, None], newest[:, np.maximum(held, 0)], 0).astype(x.dtype)
        if len(foreign):
            out[0, foreign] = stale
        return np.concatenate([x[:, : x.shape[1] - len(held)], out], axis=1)

    kind = "keys" if which == "k" else "values"
    mutant = mutant_of(name, f"The cache of {kind}: {words}.", {clue.group: rule})
    yield Hypothesis(mutant, (parameter,), 3 + len(foreign))


def _pattern(held: np.ndarray, cached: int) -> tuple[str, Parameter, str]:
    size, own = len(held), np.arange(len(held))
    by, words = _rolled(held, cached)
    if by:
        return "cache_rolled_by", Parameter("n", by, None, 0), words
    lost = np.flatnonzero(held == -2)
    if len(lost) and (held[held != -2] == own[held != -2]).all() and len(lost) == lost[-1] + 1:
        kept = size - len(lost)
        words = f"only the newest {kept} rows are there, {len(lost)} are 0"
        return "cache_trimmed", Parameter("n", kept, None, size), words
    foreign = np.flatnonzero(held == -1)
    if len(foreign):
        words = f"slots {foreign[0]}..{foreign[-1]} hold {len(foreign)} rows of no token of this dump"
        return "cache_stale_of", Parameter("n", len(foreign), None, 0, words), words
    moved = np.flatnonzero(held != own)
    words = cut_off([f"slot {i} holds position {held[i]}" for i in moved], 4)
    repeats = len(set(held.tolist())) < size
    if repeats and len(moved) and np.array_equal(moved, np.arange(moved[0], moved[-1] + 1)):
        return "cache_stale_of", Parameter("n", len(moved), None, 0, words), words
    return "cache_slots", Parameter("order", [int(i) for i in held], None, None, words), words


def _rolled(held: np.ndarray, cached: int) -> tuple[int, str]:
    """Return by how many slots all rows or those of earlier passes are turned around, and how that is said."""
    size, own = len(held), np.arange(len(held))
    for by in range(1, size):
        if np.array_equal(held, np.roll(own, by)):
            by = by if by <= size // 2 else by - size
            return by, f"rows lie {abs(by)} slots {'later' if by > 0 else 'earlier'}, turned around"
        if by < cached < size and np.array_equal(held, [*np.roll(own[:cached], by), *own[cached:]]):
            by = by if by <= cached // 2 else by - cached
            return by, f"the first {cached} rows are turned around by {abs(by)} slots"
    return 0, ""


CACHE = (Family("contents of the cache", frozenset(CACHES), _slots),)
