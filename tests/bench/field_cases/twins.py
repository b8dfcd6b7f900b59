"""Correct ports that keep some values in another basis: the logits are the same, and none is a bug.

Their wrong siblings are cases: interleaved_without_gains, smoothed_gain_wrong, v_scales_left, signs_of_up,
q_heads_in_another_order, gate_channels_in_another_order.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from support.plant_attention import attention, interleaved
from support.plant_vision import vision
from support.planting import layer

from .case import BOTH, Scene
from .helpers import by_columns, by_rows, module_of, put


class Twin(NamedTuple):
    """A change of basis."""

    name: str
    change: Callable[[Scene], str]  # of the model; says what was drawn
    prompt: str
    subjects: tuple[str, ...]


TWINS: dict[str, Twin] = {}


def twin(prompt: str = "text", on: tuple[str, ...] = BOTH) -> Callable:
    """Register a change of basis."""

    def registered(change: Callable[[Scene], str]) -> Callable[[Scene], str]:
        TWINS[change.__name__] = Twin(change.__name__, change, prompt, on)
        return change

    return registered


def everywhere(scene: Scene) -> range:
    """Return every layer."""
    return range(scene.config.layers)


def some(scene: Scene) -> list[int]:
    """Draw a third of the layers."""
    return scene.some(everywhere(scene), scene.config.layers // 3)


def drawn(scene: Scene, length: int) -> torch.Tensor:
    """Draw a factor for each of so many channels."""
    generator = torch.Generator().manual_seed(scene.draw.randrange(2**31))
    return torch.exp(0.3 * torch.randn(length, generator=generator))


def powers(scene: Scene, length: int) -> torch.Tensor:
    """Draw a power of 2 for each of so many channels: it rounds nothing."""
    return 2.0 ** torch.tensor([scene.draw.randint(-2, 2) for _ in range(length)])


def times_rows(scene: Scene, i: int, tap: str, factors: torch.Tensor) -> None:
    """Multiply the rows of a projection: what it gives."""
    module = module_of(scene.model, i, tap)
    put(module, module.weight.float() * factors[:, None])


def times_columns(scene: Scene, i: int, tap: str, factors: torch.Tensor) -> None:
    """Multiply the columns of a projection: what it is given."""
    module = module_of(scene.model, i, tap)
    put(module, module.weight.float() * factors)


def interleave(scene: Scene, i: int) -> None:
    """Store q and k and the gains of their norms for interleaved rotation, and rotate so."""
    length = scene.config.head_dim
    order = torch.arange(length).view(2, -1).T.flatten()
    for tap in ("attn.q", "attn.k"):
        module = module_of(scene.model, i, tap)
        put(module, module.weight.unflatten(0, (-1, length))[:, order].flatten(0, 1))
        norm = module_of(scene.model, i, f"{tap}_norm")
        put(norm, norm.weight[order])
    attention(layer(scene.model, i).self_attn, rotate=interleaved)


@twin()
def interleaved_everywhere(scene: Scene) -> str:
    """Store every layer for interleaved rotation."""
    for i in everywhere(scene):
        interleave(scene, i)
    return "all layers"


@twin()
def interleaved_in_some_layers(scene: Scene) -> str:
    """Store some layers so."""
    layers = some(scene)
    for i in layers:
        interleave(scene, i)
    return f"layers {layers}"


def heads_within_groups(scene: Scene, i: int) -> None:
    """Permute query heads that share a key head, and the columns of the output projection with them."""
    group = scene.config.query_heads // scene.config.kv_heads
    blocks = [scene.draw.sample(range(group), group) for _ in range(scene.config.kv_heads)]
    order = [number * group + n for number, block in enumerate(blocks) for n in block]
    q, out = module_of(scene.model, i, "attn.q"), module_of(scene.model, i, "attn.out")
    put(q, by_rows(q.weight, order, scene.config.head_dim))
    put(out, by_columns(out.weight, order, scene.config.head_dim))


@twin()
def query_heads(scene: Scene) -> str:
    """Permute query heads within their groups in every layer."""
    for i in everywhere(scene):
        heads_within_groups(scene, i)
    return "all layers"


@twin(on=("tiny",))
def key_groups(scene: Scene) -> str:
    """Permute key heads with their query heads in every layer."""
    length, group = scene.config.head_dim, scene.config.query_heads // scene.config.kv_heads
    for i in everywhere(scene):
        order = scene.permutation(scene.config.kv_heads)
        for tap, size in (("attn.q", group * length), ("attn.k", length), ("attn.v", length)):
            module = module_of(scene.model, i, tap)
            put(module, by_rows(module.weight, order, size))
        out = module_of(scene.model, i, "attn.out")
        put(out, by_columns(out.weight, order, group * length))
    return "all layers"


@twin()
def value_channels(scene: Scene) -> str:
    """Permute the channels of values within each head, and the columns that read them, in some layers."""
    layers, length, group = some(scene), scene.config.head_dim, scene.config.query_heads // scene.config.kv_heads
    for i in layers:
        order = [n * length + c for n in range(scene.config.kv_heads) for c in scene.permutation(length)]
        v, out = module_of(scene.model, i, "attn.v"), module_of(scene.model, i, "attn.out")
        put(v, v.weight[order])
        columns = torch.tensor(order).view(-1, 1, length).repeat(1, group, 1) % length
        starts = torch.arange(scene.config.query_heads).view(-1, group, 1) * length
        put(out, out.weight[:, (starts + columns).flatten()])
    return f"layers {layers}"


@twin(prompt="images", on=("tiny",))
def tower_heads(scene: Scene) -> str:
    """Permute the heads of the tower."""
    assert scene.vision is not None
    length, order = scene.vision.width // scene.vision.heads, list(range(scene.vision.heads))[::-1]
    for block in vision(scene.model).encoder.layers:
        attn = block.self_attn
        for module in (attn.q_proj, attn.k_proj, attn.v_proj):
            put(module, by_rows(module.weight, order, length))
            module.bias.data = by_rows(module.bias.detach(), order, length)
        put(attn.out_proj, by_columns(attn.out_proj.weight, order, length))
    return f"order {order}"


@twin(prompt="images", on=("tiny",))
def tower_channels(scene: Scene) -> str:
    """Permute the channels of the tower's feed-forward network."""
    assert scene.vision is not None
    for block in vision(scene.model).encoder.layers:
        order = scene.permutation(scene.vision.ffn_width)
        put(block.mlp.fc1, block.mlp.fc1.weight[order])
        block.mlp.fc1.bias.data = block.mlp.fc1.bias.detach()[order].contiguous()
        put(block.mlp.fc2, block.mlp.fc2.weight[:, order])
    return "both blocks"
