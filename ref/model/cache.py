"""The KV cache: everything for global layers, a ring of the newest W keys for local ones."""

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ref.config import TextConfig


class LayerCache(NamedTuple):
    """Keys and values of one layer, key j in slot j mod S. S is W in local layers, the context in global ones."""

    k: np.ndarray  # [B, S, K, H], normalised and rotated
    v: np.ndarray  # [B, S, K, H]
    positions: np.ndarray  # [B, S] int64, -1 where nothing or padding is
    written: int  # keys ever written; the newest S of them are there


class Cache(NamedTuple):
    """A cache value. A pass *consumes* the value it is given and returns the next: arrays are written in place.

    Using a consumed value again is refused; `copy_cache` forks one.
    """

    layers: tuple[LayerCache, ...]
    first: np.ndarray  # [B] int64, index of the first key of each row's prompt: its left pads
    clock: np.ndarray  # [1] int64, shared by all values of this lineage: keys written so far
    in_image: np.ndarray  # [B] bool, whether the newest key is a soft token: no pass may begin inside an image block

    @property
    def written(self) -> int:
        """Number of keys seen so far, pads included: the key index of the next token."""
        return self.layers[0].written


def empty_cache(config: TextConfig, left_pads: np.ndarray, context: int, dtype: DTypeLike) -> Cache:
    """Make a cache for B rows and up to `context` tokens, pads included.

    Args:
        config: the model's.
        left_pads: [B] integers, pads before each row's prompt.
        context: capacity of the global layers; local layers hold min(W, context).
        dtype: of keys and values.

    Source: Gemma 3 report section 2 (the memory argument for 5:1).
    Differs: transformers keeps W - 1 keys in local layers; google-deepmind/gemma keeps all in all layers.
    """
    first, layers = np.asarray(left_pads, np.int64), []
    slots = [min(config.window_of(i) or context, context) for i in range(config.layers)]
    # one array for all, of which large pages of memory can be made; a global layer's part is touched as it fills
    whole, begin = np.zeros((2, sum(slots) * len(first), config.kv_heads, config.head_dim), dtype), 0
    for count in slots:
        here, shape = slice(begin, begin + count * len(first)), (len(first), count, *whole.shape[2:])
        k, v = whole[0, here].reshape(shape), whole[1, here].reshape(shape)
        layers.append(LayerCache(k, v, np.full(shape[:2], -1, np.int64), 0))
        begin = here.stop
    return Cache(tuple(layers), first, np.zeros(1, np.int64), np.zeros(len(first), bool))


def copy_cache(cache: Cache) -> Cache:
    """Fork a cache value: both the original and the copy can be continued."""
    layers = tuple(LayerCache(c.k.copy(), c.v.copy(), c.positions.copy(), c.written) for c in cache.layers)
    return Cache(layers, cache.first, cache.clock.copy(), cache.in_image)


def ring_slices(begin: int, count: int, slots: int) -> list[tuple[slice, slice]]:
    """Cut `count` neighbours on a ring, from slot `begin` on, where it ends: pairs of (slots, which of them)."""
    front = min(count, slots - begin)
    pieces = [(slice(begin, begin + front), slice(0, front))]
    return pieces if front == count else [*pieces, (slice(0, count - front), slice(front, count))]


def chronological(cache: LayerCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (k, v, positions) of the keys that are there, oldest first.

    Args:
        cache: one layer's.

    Source: definition of a ring.
    """
    slots = cache.k.shape[1]
    order = np.arange(max(0, cache.written - slots), cache.written) % slots
    return cache.k[:, order], cache.v[:, order], cache.positions[:, order]


class KeyView(NamedTuple):
    """What a pass attends over: slots of keys and values, and the key index of slot 0."""

    k: np.ndarray
    v: np.ndarray
    origin: int


def extend(cache: LayerCache, k: np.ndarray, v: np.ndarray, positions: np.ndarray) -> tuple[KeyView, LayerCache]:
    """Add the keys of a pass and return what its queries attend over, and the cache after it.

    One token is written first and attended to in place: in a ring it overwrites the key that just left its window.
    Several tokens attend over the old keys followed by the new, since the ring cannot hold all of them.

    Args:
        cache: one layer's; consumed.
        k: [B, T, K, H] the new keys, normalised and rotated.
        v: [B, T, K, H].
        positions: [B, T] int64, -1 on padding.

    Source: ring buffer; cached decoding must equal the full forward (tests/model/test_cache.py).
    Differs: see `empty_cache`.
    """
    T, slots = k.shape[1], cache.k.shape[1]
    view = KeyView(k, v, 0)
    if T > 1 and cache.written:
        old_k, old_v, _ = chronological(cache)
        origin = cache.written - old_k.shape[1]
        view = KeyView(np.concatenate([old_k, k], axis=1), np.concatenate([old_v, v], axis=1), origin)
    kept, begin = min(T, slots), (cache.written + T - min(T, slots)) % slots
    for where, new in ring_slices(begin, kept, slots):
        here = slice(T - kept + new.start, T - kept + new.stop)
        cache.k[:, where], cache.v[:, where] = k[:, here], v[:, here]
        cache.positions[:, where] = positions[:, here]
    after = cache._replace(written=cache.written + T)
    if T == 1:
        view = KeyView(cache.k, cache.v, 0)
    return view, after


def in_order(view: KeyView, stop: int) -> KeyView:
    """Return the view with its keys oldest first and none after key index `stop`; for taps, which show keys in order.

    Args:
        view: from `extend`.
        stop: one past the newest key.
    """
    slots = view.k.shape[1]
    keys = np.arange(max(view.origin, stop - slots), stop)
    order = (keys - view.origin) % slots
    return KeyView(view.k[:, order], view.v[:, order], int(keys[0]))
