"""Mistakes of number formats inside an operation: variances, accumulators, weights.

Source: sglang#27540 (variance in bfloat16), microsoft/onnxruntime#29599 (float16 in blocks), quantised weights.
"""

import torch
from support.planting import forward

from .case import Answer, AnyOf, Planted, Scene, case, text_tap
from .helpers import PROJECTIONS, module_of, put

BIGGEST = {"int8": 127, "int4": 7}


@case(wide=True, joins=True)
def variance_in_bfloat16(scene: Scene) -> Planted:
    """Reduce the variance of a norm in bfloat16."""
    i, tap = scene.layer(), scene.draw.choice(["attn.pre_norm", "attn.q_norm", "ffn.pre_norm", "ffn.post_norm"])

    def run(self, original, x):
        variance = x.bfloat16().pow(2).mean(-1, keepdim=True).float()
        return x * torch.rsqrt(variance + self.eps) * (1 + self.weight.float())

    forward(module_of(scene.model, i, tap), run)
    return Planted((text_tap(i, tap),), (Answer("variance_rounded", {"format": "bfloat16"}),), tap)


@case(wide=True, joins=True)
def accumulated_in_blocks(scene: Scene) -> Planted:
    """Add up the products of a projection in blocks, in a narrow accumulator."""
    i, tap = scene.layer(), scene.draw.choice(["attn.q", "attn.out", "ffn.out", "ffn.gate"])
    name, block = scene.draw.choice(["float16", "bfloat16"]), scene.draw.choice([8, 16, 32])
    dtype = getattr(torch, name)

    def run(self, original, x):
        total = None
        for start in range(0, x.shape[-1], block):
            part = x[..., start : start + block] @ self.weight[:, start : start + block].T
            total = part.to(dtype) if total is None else total + part.to(dtype)
        return total.to(x.dtype)

    forward(module_of(scene.model, i, tap), run)
    answers = (Answer("accumulated_in", {"format": name, "block": block}),)
    return Planted((text_tap(i, tap),), answers, f"{tap} in {name}, blocks of {block}")


def integers(weight: torch.Tensor, kind: str, per: str) -> torch.Tensor:
    """Round a weight to symmetric integers, with a scale for the tensor, for each row or for 32 weights of a row."""
    most = BIGGEST[kind]
    if per == "block":
        blocks = [integers(part, kind, "channel") for part in weight.split(32, 1)]
        return torch.cat(blocks, 1)
    largest = weight.abs().max() if per == "tensor" else weight.abs().amax(1, keepdim=True)
    return torch.round(weight * most / largest).clamp(-most, most) * largest / most


def rounded(weight: torch.Tensor, kind: str, per: str) -> torch.Tensor:
    """Round a weight."""
    weight = weight.float()
    if kind in BIGGEST:
        return integers(weight, kind, per)
    if kind == "float8":
        scale = weight.abs().max() / 448 if per == "tensor" else weight.abs().amax(1, keepdim=True) / 448
        return (weight / scale).to(torch.float8_e4m3fn).float() * scale
    return weight.to(getattr(torch, kind)).float()


def weights_in(scene: Scene, kind: str, per: str) -> Planted:
    """Round every projection of a layer."""
    i = scene.layer()
    for tap in PROJECTIONS:
        module = module_of(scene.model, i, tap)
        put(module, rounded(module.weight, kind, per))
    formats = {"format": kind} | ({"per": per} if per else {})
    return Planted((text_tap(i, "attn.q"),), (Answer("weights_rounded", formats),), f"{kind} per {per or 'weight'}")


@case(joins=True)
def weights_int8_per_tensor(scene: Scene) -> Planted:
    """Round weights to int8 with one scale."""
    return weights_in(scene, "int8", "tensor")


@case(joins=True)
def weights_int8_per_channel(scene: Scene) -> Planted:
    """Round weights to int8 with a scale for each row."""
    return weights_in(scene, "int8", "channel")


@case(joins=True)
def weights_int4_per_block(scene: Scene) -> Planted:
    """Round weights to int4 with a scale for each 32."""
    return weights_in(scene, "int4", "block")


@case(joins=True)
def weights_float8(scene: Scene) -> Planted:
    """Round weights to float8."""
    return weights_in(scene, "float8", scene.draw.choice(["tensor", "channel"]))


@case(wide=True, joins=True)
def weights_narrow(scene: Scene) -> Planted:
    """Round weights to bfloat16 or float16 in a float32 run."""
    return weights_in(scene, scene.draw.choice(["bfloat16", "float16"]), "")


@case(joins=True)
def one_weight_rounded(scene: Scene) -> Planted:
    """Round the weights of one projection only."""
    i, tap, per = scene.layer(), scene.draw.choice(sorted(PROJECTIONS)), scene.draw.choice(["tensor", "channel"])
    module = module_of(scene.model, i, tap)
    put(module, rounded(module.weight, "int8", per))
    answers = (Answer("weights_rounded", {"format": "int8", "per": AnyOf((per,))}),)
    return Planted((text_tap(i, tap),), answers, f"{tap} in int8 per {per}")
