"""Correct ports whose feed-forward channels are in another order or sign, or whose scales are folded into weights.

Source: AWQ and SmoothQuant fold a factor per channel into the weights around it (vllm/llm-compressor#2500).
"""

import torch

from .case import Scene
from .helpers import module_of, put
from .twins import drawn, everywhere, heads_within_groups, interleave, powers, some, times_columns, times_rows, twin


def ffn_channels_of(scene: Scene, i: int) -> None:
    """Permute the channels of a feed-forward network."""
    order = scene.permutation(scene.config.ffn_width)
    for tap in ("ffn.gate", "ffn.up"):
        module = module_of(scene.model, i, tap)
        put(module, module.weight[order])
    out = module_of(scene.model, i, "ffn.out")
    put(out, out.weight[:, order])


@twin()
def ffn_channels(scene: Scene) -> str:
    """Permute the channels of every feed-forward network."""
    for i in everywhere(scene):
        ffn_channels_of(scene, i)
    return "all layers"


@twin()
def ffn_signs(scene: Scene) -> str:
    """Turn the signs of channels of up and down."""
    layers = some(scene)
    for i in layers:
        signs = torch.tensor([scene.draw.choice([-1.0, 1.0]) for _ in range(scene.config.ffn_width)])
        times_rows(scene, i, "ffn.up", signs)
        times_columns(scene, i, "ffn.out", signs)
    return f"layers {layers}"


def up_to_down(scene: Scene, i: int, factors: torch.Tensor) -> None:
    """Fold a factor for each channel of up into down."""
    times_rows(scene, i, "ffn.up", factors)
    times_columns(scene, i, "ffn.out", 1 / factors)


@twin()
def up_folded(scene: Scene) -> str:
    """Fold factors of up into down."""
    for i in everywhere(scene):
        up_to_down(scene, i, drawn(scene, scene.config.ffn_width))
    return "all layers"


@twin()
def up_folded_by_powers(scene: Scene) -> str:
    """Fold powers of 2, which round nothing, in some layers."""
    layers = some(scene)
    for i in layers:
        up_to_down(scene, i, powers(scene, scene.config.ffn_width))
    return f"layers {layers}"


def v_to_out(scene: Scene, i: int, factors: torch.Tensor) -> None:
    """Fold a factor for each channel of values into the output projection."""
    group = scene.config.query_heads // scene.config.kv_heads
    times_rows(scene, i, "attn.v", factors)
    read = factors.view(scene.config.kv_heads, 1, -1).repeat(1, group, 1).flatten()
    times_columns(scene, i, "attn.out", 1 / read)


@twin()
def v_folded(scene: Scene) -> str:
    """Fold factors of values into the output projection."""
    for i in everywhere(scene):
        v_to_out(scene, i, drawn(scene, scene.config.kv_heads * scene.config.head_dim))
    return "all layers"


def smooth(scene: Scene, i: int, norm: str, taps: tuple[str, ...]) -> None:
    """Divide what a norm gives by factors, and multiply the weights that read it: (1 + w) / s."""
    factors, module = drawn(scene, scene.config.width), module_of(scene.model, i, norm)
    put(module, (1 + module.weight.float()) / factors - 1)
    for tap in taps:
        times_columns(scene, i, tap, factors)


@twin()
def attention_smoothed(scene: Scene) -> str:
    """Smooth what attention is given."""
    for i in everywhere(scene):
        smooth(scene, i, "attn.pre_norm", ("attn.q", "attn.k", "attn.v"))
    return "all layers"


@twin()
def ffn_smoothed(scene: Scene) -> str:
    """Smooth what feed-forward networks are given, in some layers."""
    layers = some(scene)
    for i in layers:
        smooth(scene, i, "ffn.pre_norm", ("ffn.gate", "ffn.up"))
    return f"layers {layers}"


@twin()
def several(scene: Scene) -> str:
    """Change the basis in many ways at once, in every layer."""
    for i in everywhere(scene):
        smooth(scene, i, "attn.pre_norm", ("attn.q", "attn.k", "attn.v"))
        interleave(scene, i)
        heads_within_groups(scene, i)
        v_to_out(scene, i, drawn(scene, scene.config.kv_heads * scene.config.head_dim))
        up_to_down(scene, i, drawn(scene, scene.config.ffn_width))
        ffn_channels_of(scene, i)
    return "all layers"


@twin()
def several_in_some_layers(scene: Scene) -> str:
    """Change the basis of some layers in one way, of others in another."""
    one, other = some(scene), some(scene)
    for i in one:
        smooth(scene, i, "ffn.pre_norm", ("ffn.gate", "ffn.up"))
        ffn_channels_of(scene, i)
    for i in other:
        interleave(scene, i)
        v_to_out(scene, i, powers(scene, scene.config.kv_heads * scene.config.head_dim))
    return f"layers {one} and {other}"
