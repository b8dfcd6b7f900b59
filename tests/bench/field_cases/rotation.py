"""Mistakes of rotation: positions, bases, factors and formats of its tables.

Source: ml-explore/mlx-lm#1396, mlx-node#33, mlx-vlm#293; transformers under `model.to(torch.bfloat16)`.
"""

import torch
from support.planting import forward, text

from .case import BOTH, About, Answer, Planted, Scene, case, text_tap
from .helpers import positions_of_kind, rotate_at

KINDS = {"local": "sliding_attention", "global": "full_attention"}
MODEL = ("local", "global")


def shifted(n: int) -> tuple[Answer, ...]:
    """Name positions that are n too far."""
    return (Answer("positions_shifted", {"n": n}),)


@case(joins=True)
def queries_late(scene: Scene) -> Planted:
    """Turn queries of a layer n too far, or too little."""
    i, n = scene.layer(), scene.draw.choice([-7, -3, -2, *range(2, 40)])
    rotate_at(scene.model, i, lambda p: p + n, None)
    return Planted((text_tap(i, "attn.q_rope"),), shifted(n), f"n={n}")


@case(joins=True)
def keys_late(scene: Scene) -> Planted:
    """Turn keys of a layer n too far."""
    i, n = scene.layer(), scene.draw.choice([-5, -2, *range(2, 40)])
    rotate_at(scene.model, i, None, lambda p: p + n)
    return Planted((text_tap(i, "attn.k_rope"),), shifted(n), f"n={n}")


@case()
def all_late(scene: Scene) -> Planted:
    """Count positions of the whole model from n on."""
    n = scene.draw.randint(2, 300)
    positions_of_kind(scene.model, lambda p: p + n)
    return Planted((text_tap(0, "attn.q_rope"),), shifted(n), f"n={n}")


@case(prompt="cached")
def steps_late(scene: Scene) -> Planted:
    """Count the prompt's tokens twice, or one draft too many, in cached passes only."""
    n = scene.draw.choice([2, 3, 5, 9, scene.tokens])
    positions_of_kind(scene.model, lambda p: p + n if p.shape[-1] == 1 else p)
    return Planted((text_tap(0, "attn.q_rope"),), shifted(n), f"n={n} in cached passes")


@case(prompt="cached")
def step_queries_late(scene: Scene) -> Planted:
    """Turn only queries of cached passes too far, in a layer."""
    i, n = scene.layer(), scene.draw.randint(2, 20)
    rotate_at(scene.model, i, lambda p: p + n if p.shape[-1] == 1 else p, None)
    return Planted((text_tap(i, "attn.q_rope"),), shifted(n), f"n={n} in cached passes")


@case()
def positions_interpolated(scene: Scene) -> Planted:
    """Multiply positions of one kind of layer."""
    kind, factor = scene.draw.choice(MODEL), scene.draw.choice([0.25, 0.5, 0.75, 1.5, 2.0, 3.0])
    positions_of_kind(scene.model, lambda p: p * factor, KINDS[kind])
    right = scene.config.rope_factor if kind == "global" else 1.0
    answers = (
        Answer("positions_scaled", {"factor": About(factor)}),
        Answer("rotary_factor", {"factor": About(right / factor)}),
    )
    return Planted((first(scene, kind),), answers, f"times {factor} in {kind} layers")


@case()
def factor_of_global_layers(scene: Scene) -> Planted:
    """Divide angles of global layers by another factor."""
    right = scene.config.rope_factor
    factor = scene.draw.choice([2.0, 4.0, 16.0, 32.0, 3.0])
    positions_of_kind(scene.model, lambda p: p * right / factor, KINDS["global"])
    answers = (
        Answer("rotary_factor", {"factor": About(factor)}),
        Answer("positions_scaled", {"factor": About(right / factor)}),
    )
    return Planted((first(scene, "global"),), answers, f"factor={factor}")


def first(scene: Scene, kind: str) -> str:
    """Return the tap at which a kind of layer first rotates."""
    return text_tap((scene.sliding if kind == "local" else scene.full)[0], "attn.q_rope")


def base_of(scene: Scene, kind: str, base: float) -> Planted:
    """Give one kind of layer another base."""
    length = scene.config.head_dim
    inverse = base ** -(torch.arange(0, length, 2, dtype=torch.float32) / length)
    factor = scene.config.rope_factor if kind == "global" else 1.0
    getattr(text(scene.model).rotary_emb, f"{KINDS[kind]}_inv_freq").copy_(inverse / factor)
    return Planted((first(scene, kind),), (Answer("rotary_base", {"base": About(base)}),), f"base={base:.0f}")


@case()
def base_of_local_layers(scene: Scene) -> Planted:
    """Draw a base for local layers."""
    return base_of(scene, "local", round(10 ** scene.draw.uniform(2.5, 5.7)))


@case()
def base_of_global_layers(scene: Scene) -> Planted:
    """Draw a base for global layers; 500,000 is Llama's."""
    return base_of(scene, "global", scene.draw.choice([500_000, round(10 ** scene.draw.uniform(4.2, 5.8)), 8_000_000]))


@case()
def positions_restart(scene: Scene) -> Planted:
    """Begin positions anew inside a prompt, as where chunks or packed rows are counted for themselves."""
    start = scene.draw.randint(5, scene.tokens - 6)
    values = [p if p < start else p - start for p in range(scene.tokens)]
    positions_of_kind(scene.model, lambda p: torch.tensor([values]))
    answers = (
        Answer("positions_of_tokens", {"values": values}),
        Answer("positions_shifted", {"n": -start, "which": list(range(start, scene.tokens))}),
    )
    return Planted((text_tap(0, "attn.q_rope"),), answers, f"restart at {start}")


@case()
def positions_with_gaps(scene: Scene) -> Planted:
    """Skip positions at several places."""
    values, now = [], 0
    for _ in range(scene.tokens):
        values.append(now)
        now += scene.draw.choice([1, 1, 1, 2, 5])
    positions_of_kind(scene.model, lambda p: torch.tensor([values]))
    return Planted((text_tap(0, "attn.q_rope"),), (Answer("positions_of_tokens", {"values": values}),), str(values))


@case(on=BOTH)
def frequencies_rounded(scene: Scene) -> Planted:
    """Round the inverse frequencies, as `model.to(torch.bfloat16)` does."""
    rotary, name = text(scene.model).rotary_emb, scene.draw.choice(["bfloat16", "bfloat16", "float16"])
    for kind in KINDS.values():
        frequencies = getattr(rotary, f"{kind}_inv_freq")
        frequencies.copy_(frequencies.to(getattr(torch, name)).float())
    answers = (Answer("rotary_frequencies_rounded", {"format": name}),)
    return Planted((text_tap(0, "attn.q_rope"),), answers, name)


@case(wide=True)
def table_rounded(scene: Scene) -> Planted:
    """Round cosines and sines in a float32 run."""
    name = scene.draw.choice(["bfloat16", "float16"])
    dtype = getattr(torch, name)

    def run(self, original, *args, **kwargs):
        return tuple(one.to(dtype).to(one.dtype) for one in original(*args, **kwargs))

    forward(text(scene.model).rotary_emb, run)
    answers = (Answer("rotary_table_rounded", {"format": name}),)
    return Planted((text_tap(0, "attn.q_rope"),), answers, name)
