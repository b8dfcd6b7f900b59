"""Mistakes of the cache: rings turned, slots in another order, stale keys, trimmed ones.

Source: Blaizzy/mlx-vlm#1748 (a ring turned by r), ml-explore/mlx-lm#1109 (keys of rejected drafts), mlxcel#430.
"""

import torch
from support.plant_attention import attention
from support.planting import layer

from .case import Answer, Planted, Scene, case, text_tap
from .helpers import change_cache


def held(scene: Scene, i: int) -> int:
    """Return how many keys of the prompt a layer's cache holds."""
    return min(scene.tokens, scene.config.window - 1) if i in scene.sliding else scene.tokens


@case(prompt="cached")
def ring_turned(scene: Scene) -> Planted:
    """Turn the rings of local layers by r slots, keys and values together."""
    r = scene.draw.randint(2, held(scene, 0) - 1)

    def change(cached, number):
        if number in scene.sliding:
            cached.keys, cached.values = cached.keys.roll(r, 2), cached.values.roll(r, 2)

    change_cache(scene.model, change)
    return Planted((text_tap(0, "cache.k"),), (*turned(held(scene, 0), r), *slots(scene, 0, r)), f"r={r}")


def turned(count: int, r: int) -> tuple[Answer, ...]:
    """Name a turn by r slots of so many: as many less than a whole turn the other way."""
    return Answer("cache_rolled_by", {"n": r}), Answer("cache_rolled_by", {"n": r - count})


def slots(scene: Scene, i: int, r: int) -> tuple[Answer, ...]:
    """Name a turn by the slots; the newest key follows those of the prompt."""
    count = held(scene, i)
    return (Answer("cache_slots", {"order": [*((n - r) % count for n in range(count)), count]}),)


@case(prompt="cached")
def keys_turned(scene: Scene) -> Planted:
    """Turn the keys of one layer by r slots, but not its values."""
    i = scene.layer()
    r = scene.draw.randint(2, held(scene, i) - 1)

    def change(cached, number):
        if number == i:
            cached.keys = cached.keys.roll(r, 2)

    change_cache(scene.model, change)
    answers = (*turned(held(scene, i), r), *slots(scene, i, r))
    return Planted((text_tap(i, "cache.k"),), answers, f"r={r}")


@case(prompt="cached")
def slots_in_another_order(scene: Scene) -> Planted:
    """Read the keys of a global layer by a wrong table of slots."""
    i = scene.full[-1]
    order = scene.permutation(scene.tokens)

    def change(cached, number):
        if number == i:
            cached.keys = cached.keys[:, :, order]

    change_cache(scene.model, change)
    answers = (Answer("cache_slots", {"order": [*order, scene.tokens]}), Answer("cache_slots", {"order": order}))
    return Planted((text_tap(i, "cache.k"),), answers, f"order={order}")


@case(prompt="cached")
def newest_keys_stale(scene: Scene) -> Planted:
    """Leave the keys of n rejected drafts where the newest keys of the prompt belong, in global layers."""
    n = scene.draw.randint(2, 6)

    def change(cached, number):
        if number in scene.full:
            for name in ("keys", "values"):
                value = getattr(cached, name).clone()
                value[:, :, -n:] = value[:, :, -2 * n : -n]
                setattr(cached, name, value)

    change_cache(scene.model, change)
    count = scene.tokens
    order = [*range(count - n), *range(count - 2 * n, count - n), count]
    answers = (Answer("cache_stale_of", {"n": n}), Answer("cache_slots", {"order": order}))
    return Planted((text_tap(scene.full[0], "cache.k"),), answers, f"n={n}")


@case(prompt="cached")
def cache_trimmed(scene: Scene) -> Planted:
    """Keep the newest n keys of global layers only."""
    n = scene.draw.randint(6, scene.tokens - 3)

    def trimmed(module, q, k, v, mask):
        if q.shape[2] > 1:
            return q, k, v, mask
        return q, k[:, :, -n:], v[:, :, -n:], None if mask is None else mask[..., -n:]

    for i in scene.full:
        attention(layer(scene.model, i).self_attn, interface=trimmed)
    i = scene.full[0]
    answers = (Answer("cache_trimmed", {"n": n}), Answer("horizon", {"n": n}))
    return Planted((text_tap(i, "cache.k"), text_tap(i, "attn.visible")), answers, f"n={n}")


@case(prompt="cached")
def reserved_slots_read(scene: Scene) -> Planted:
    """Read n slots of one layer that were reserved and never written: zeros."""
    i = scene.layer()
    n = scene.draw.randint(2, min(6, held(scene, i) - 1))

    def change(cached, number):
        if number == i:
            for name in ("keys", "values"):
                setattr(cached, name, torch.cat([getattr(cached, name)[:, :, :-n], 0 * cached.keys[:, :, -n:]], 2))

    change_cache(scene.model, change)
    start = held(scene, i) - n
    answers = (
        Answer("cache_stale_of", {"n": n}),
        Answer("part_missing", {"start": start, "stop": held(scene, i)}),
    )
    return Planted((text_tap(i, "cache.k"),), answers, f"n={n}")
