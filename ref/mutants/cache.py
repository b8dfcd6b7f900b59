"""Mistakes in the cache: slots that are read or written wrongly."""

import numpy as np

from ref.emulate.graph import LAYER
from ref.mutants.base import TapMutant
from ref.mutants.needs import Needs


def _rolled_cache(at, name):
    k, v = at.run.history(at.prefix)
    return np.roll(at.ops.keep(k if name == "k" else v), 1, axis=1)


def _stale_cache(at, name):
    """The newest slot holds what was there before: the pass's last key is not written."""
    k, v = at.run.history(at.prefix)
    x = at.ops.keep(k if name == "k" else v).copy()
    x[:, -1] = x[:, -2] if x.shape[1] > 1 else 0
    return x


def _ring_cache(at, name):
    """Keys are read in the order of slots, not of time."""
    k, v = at.run.history(at.prefix)
    x = at.ops.keep(k if name == "k" else v)
    slots = at.config.window_of(at.layer) or x.shape[1]
    newest = np.arange(max(0, x.shape[1] - slots), x.shape[1])
    out = x.copy()
    out[:, newest[0] :] = x[:, newest[np.argsort(newest % slots)]]
    return out


def _cache(rule):
    return {LAYER + "cache.k": lambda at: rule(at, "k"), LAYER + "cache.v": lambda at: rule(at, "v")}


CACHE_MUTANTS = [
    TapMutant(
        name="cache_rolled",
        what="Keys and values lie one slot too late in the cache.",
        needs=Needs(cached=True),
        rules=_cache(_rolled_cache),
    ),
    TapMutant(
        name="cache_stale",
        what="The newest key is not written before it is read.",
        needs=Needs(cached=True),
        rules=_cache(_stale_cache),
    ),
    TapMutant(
        name="cache_in_slot_order",
        what="After the ring has wrapped, keys are read in the order of slots.",
        needs=Needs(cached=True, windows=1, note="and a mask by index"),
        rules=_cache(_ring_cache),
    ),
]
