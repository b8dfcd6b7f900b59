"""Mistakes of attention: what queries see, scales, softcaps and the format of softmax.

Source: Blaizzy/mlxcel#430 (a horizon that is neither the window nor everything), softcaps as in Gemma 2.
"""

import torch
from support.planting import forward, layer

from .case import About, Answer, Planted, Scene, case, text_tap
from .helpers import attend, hide


@case()
def window_of_local_layers(scene: Scene) -> Planted:
    """Give local layers a narrower window."""
    n = 3 if scene.subject == "tiny" else scene.draw.randint(5, scene.tokens - 4)
    for i in scene.sliding:
        hide(scene.model, i, lambda q, k: q - k >= n)
    return Planted((text_tap(0, "attn.visible"),), (Answer("window", {"n": n}),), f"n={n}")


@case(on=("tiny",))
def window_too_wide(scene: Scene) -> Planted:
    """Give local layers a wider window."""
    from support.plant_attention import attention, window_of

    n = scene.draw.randint(8, 20)
    for i in scene.sliding:
        attention(layer(scene.model, i).self_attn, mask=window_of(n - scene.config.window))
    return Planted((text_tap(0, "attn.visible"),), (Answer("window", {"n": n}),), f"n={n}")


@case(joins=True)
def window_of_one_layer(scene: Scene) -> Planted:
    """Give one local layer a narrower window."""
    i, n = scene.layer(scene.sliding), 3 if scene.subject == "tiny" else scene.draw.randint(5, scene.tokens - 4)
    hide(scene.model, i, lambda q, k: q - k >= n)
    return Planted((text_tap(i, "attn.visible"),), (Answer("window", {"n": n}),), f"n={n}")


@case()
def horizon_of_global_layers(scene: Scene) -> Planted:
    """Let global layers see the newest n keys only, as `--max-kv-size` does."""
    n = scene.draw.randint(7, scene.tokens - 4)
    for i in scene.full:
        hide(scene.model, i, lambda q, k: q - k >= n)
    return Planted((text_tap(scene.full[0], "attn.visible"),), (Answer("horizon", {"n": n}),), f"n={n}")


def scaled(scene: Scene, layers: list[int], factor: float) -> Planted:
    """Set the scale of layers."""
    scale = scene.config.query_scale * factor
    for i in layers:
        layer(scene.model, i).self_attn.scaling = scale
    answers = (
        Answer("softmax_scale", {"scale": About(scale)}),
        Answer("values_scaled", {"scale": About(factor)}),
    )
    return Planted((text_tap(layers[0], "attn.scores"),), answers, f"scale={scale:.5f}, right times {factor:.3f}")


@case(joins=True)
def scale_of_one_layer(scene: Scene) -> Planted:
    """Scale the scores of one layer otherwise."""
    return scaled(scene, [scene.layer()], scene.draw.uniform(0.3, 0.9))


@case()
def scale_of_all_layers(scene: Scene) -> Planted:
    """Scale the scores of all layers otherwise."""
    return scaled(scene, list(range(scene.config.layers)), scene.draw.choice([0.5, 1.15, 1.4, 2**0.5 / 2]))


@case(joins=True)
def attention_softcapped(scene: Scene) -> Planted:
    """Cap the scores of a layer."""
    i, cap = scene.layer(), round(10 ** scene.draw.uniform(0.0, 1.3), 1)
    module = layer(scene.model, i).self_attn
    forward(module, lambda self, original, *args, **kwargs: original(*args, softcap=cap, **kwargs))
    answers = (Answer("attention_softcap_of", {"cap": About(cap)}),)
    taps = (text_tap(i, "attn.probs"), text_tap(i, "attn.scores"))
    return Planted(taps, answers, f"cap={cap}")


@case(joins=True)
def empty_slots_seen(scene: Scene) -> Planted:
    """Let a layer see slots of a cache that hold nothing yet: zeros as keys and values."""
    i, n = scene.layer(), scene.draw.randint(200, 4000)

    def run(original, module, query, key, value, mask, scaling=None, **kwargs):
        groups = module.num_key_value_groups
        keys, values = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        masked = query @ keys.transpose(2, 3) * scaling + (0 if mask is None else mask)
        empty = torch.zeros(*masked.shape[:-1], n, dtype=masked.dtype)
        probs = torch.softmax(torch.cat([masked, empty], -1), -1, dtype=torch.float32)[..., :-n].to(query.dtype)
        return (probs @ values).transpose(1, 2).contiguous(), probs

    undo = attend(scene.model, i, run)
    return Planted((text_tap(i, "attn.probs"),), (Answer("empty_keys_seen", {"n": n}),), f"n={n}", undo)


def softmax_in(scene: Scene, name: str) -> Planted:
    """Run a layer's softmax in a narrower format."""
    dtype, i = getattr(torch, name), scene.layer()

    def run(original, module, query, key, value, mask, scaling=None, **kwargs):
        groups = module.num_key_value_groups
        keys, values = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        masked = query @ keys.transpose(2, 3) * scaling + (0 if mask is None else mask)
        probs = torch.softmax(masked.to(dtype), -1).to(query.dtype)
        return (probs @ values).transpose(1, 2).contiguous(), probs

    undo = attend(scene.model, i, run)
    answers = (Answer("softmax_rounded", {"format": name}),)
    return Planted((text_tap(i, "attn.probs"), text_tap(i, "attn.scores")), answers, name, undo)


@case(wide=True, joins=True)
def softmax_in_bfloat16(scene: Scene) -> Planted:
    """Run softmax in bfloat16."""
    return softmax_in(scene, "bfloat16")
