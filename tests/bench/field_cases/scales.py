"""Mistakes of numbers: scales, softcaps of logits, epsilons and offsets of norms, limits.

Source: `int(sqrt(640))` in ports by hand; transformers#39972 (clamping as the cure of an overflow).
"""

from math import isqrt, sqrt

import torch
from support.plant_text import mlp
from support.planting import forward, layer, normed, text

from .case import About, Answer, Planted, Scene, case, text_tap
from .helpers import after, change_logits, module_of, output_of


def embedding(scene: Scene, scale: float) -> Planted:
    """Scale the embedding otherwise."""
    table, right = text(scene.model).embed_tokens, sqrt(scene.config.width)
    table.embed_scale = torch.tensor(scale).to(table.embed_scale.dtype)
    answers = (
        Answer("embedding_scaled", {"scale": About(scale, 0.004)}),
        Answer("values_scaled", {"scale": About(scale / right, 0.004)}),
    )
    return Planted(("text.embed",), answers, f"scale={scale:.4f}")


@case(on=("270m",), joins=True)
def embedding_scale_truncated(scene: Scene) -> Planted:
    """Scale by int(sqrt(D))."""
    return embedding(scene, float(isqrt(scene.config.width)))


@case(joins=True)
def embedding_scale(scene: Scene) -> Planted:
    """Scale by another number, such as another size's."""
    others = [sqrt(other) for other in (768, 1152, 2560, 3840)]
    return embedding(scene, scene.draw.choice([*others, sqrt(scene.config.width) * scene.draw.uniform(0.5, 0.95)]))


@case(joins=True)
def logits_scale(scene: Scene) -> Planted:
    """Scale the logits, as by a temperature or another model's multiplier."""
    scale = scene.draw.choice([0.0625, 0.5, 0.7, 1.25, 1.4])
    change_logits(scene.model, lambda x: x * scale)
    answers = (
        Answer("logits_scaled", {"scale": About(scale)}),
        Answer("values_scaled", {"scale": About(scale)}),
    )
    return Planted(("text.logits",), answers, f"scale={scale}")


@case(joins=True)
def logits_softcapped(scene: Scene) -> Planted:
    """Cap the logits at another limit than Gemma 2's."""
    largest = float(output_of(scene.model, scene.model.lm_head, scene.prompt.ids).abs().max())
    cap = round(largest * scene.draw.uniform(0.6, 3.0), 1)
    change_logits(scene.model, lambda x: cap * torch.tanh(x / cap))
    return Planted(("text.logits",), (Answer("logit_softcap_of", {"cap": About(cap)}),), f"cap={cap}")


@case(joins=True)
def values_times(scene: Scene) -> Planted:
    """Scale what an operation of a layer gives."""
    i, scale = scene.layer(), scene.draw.choice([0.5, 0.9, 1.1, 2.0, scene.draw.uniform(0.6, 1.6)])
    tap = scene.draw.choice(["attn.v", "attn.out", "ffn.up", "ffn.out", "attn.post_norm", "ffn.post_norm"])
    after(module_of(scene.model, i, tap), lambda x: x * scale)
    return Planted((text_tap(i, tap),), (Answer("values_scaled", {"scale": About(scale)}),), f"{tap} times {scale:.3f}")


@case(joins=True)
def norm_epsilon(scene: Scene) -> Planted:
    """Give a norm of a layer another epsilon."""
    i, tap = scene.layer(), scene.draw.choice(["attn.pre_norm", "attn.k_norm", "attn.post_norm", "ffn.post_norm"])
    epsilon = 10 ** scene.draw.uniform(-5.5, 0)
    module_of(scene.model, i, tap).eps = epsilon
    answers = (Answer("norm_epsilon", {"epsilon": About(epsilon, 0.1)}),)
    return Planted((text_tap(i, tap),), answers, f"epsilon={epsilon:.2e} at {tap}")


@case()
def epsilon_of_all_norms(scene: Scene) -> Planted:
    """Give every norm another epsilon."""
    epsilon = scene.draw.choice([1e-1, 3e-2, 1e-3, 1e-4])
    for module in text(scene.model).modules():
        if hasattr(module, "eps"):
            module.eps = epsilon
    answers = (Answer("norm_epsilon", {"epsilon": About(epsilon, 0.1)}),)
    return Planted((text_tap(0, "attn.pre_norm"),), answers, f"epsilon={epsilon}")


@case(joins=True)
def norm_offset(scene: Scene) -> Planted:
    """Add another number than 1 to the gain of a norm."""
    i, offset = scene.layer(), scene.draw.choice([0.5, 0.9, 1.1, 1.5, -1.0, 3.0])
    tap = scene.draw.choice(["attn.pre_norm", "attn.q_norm", "attn.post_norm", "ffn.pre_norm", "ffn.post_norm"])
    forward(module_of(scene.model, i, tap), normed(lambda w: offset + w))
    answers = (Answer("norm_gain_offset", {"offset": About(offset)}),)
    return Planted((text_tap(i, tap),), answers, f"offset={offset} at {tap}")


def limit_of(scene: Scene, x: torch.Tensor) -> float:
    """Draw a limit that between 0.1 and 2 % of the values pass."""
    limit = torch.quantile(x.float().abs().flatten()[:: max(1, x.numel() // 100_000)], scene.draw.uniform(0.98, 0.999))
    return float(limit.to(x.dtype))


@case()
def act_clamped(scene: Scene) -> Planted:
    """Clamp what the last projection of a layer is given."""
    i = scene.layer()
    limit = limit_of(scene, output_of(scene.model, module_of(scene.model, i, "ffn.out"), scene.prompt.ids, given=True))
    mlp(lambda self, x: (self.act_fn(self.gate_proj(x)) * self.up_proj(x)).clamp(-limit, limit))(scene.model, i)
    return Planted((text_tap(i, "ffn.act"),), (Answer("clamped", {"limit": About(limit)}),), f"limit={limit:.4g}")


@case()
def stream_clamped(scene: Scene) -> Planted:
    """Clamp what a layer gives, as against an overflow."""
    i = scene.layer()
    limit = limit_of(scene, output_of(scene.model, layer(scene.model, i), scene.prompt.ids))
    after(layer(scene.model, i), lambda x: x.clamp(-limit, limit))
    return Planted((text_tap(i, "out"),), (Answer("clamped", {"limit": About(limit)}),), f"limit={limit:.4g}")
