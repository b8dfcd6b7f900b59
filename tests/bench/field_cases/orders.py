"""Mistakes of order: heads, channels, signs, images, rows, patches, tokens; half of a change of basis.

Source: tenstorrent/tt-metal#51374 and vllm#55335 (interleaved layout), vllm/llm-compressor#2522 (1 + w/s),
transformers#36864 (images), ollama#9747 (images of another row).
"""

import torch
from support.plant_attention import attention, interleaved
from support.plant_vision import plant_features, vision
from support.planting import forward, layer, text

from .case import Answer, Planted, Scene, case, text_tap
from .helpers import after, by_columns, by_rows, module_of, put


def ordered(name: str, order: list[int]) -> tuple[Answer, ...]:
    """Name an order: place i holds what belongs to place order[i]."""
    return (Answer(name, {"order": order}),)


def either(name: str, order: list[int]) -> tuple[Answer, ...]:
    """Name an order of what an operation gives, or its inverse where it is told of what the operation is given."""
    inverse = [order.index(n) for n in range(len(order))]
    return (*ordered(name, order), *ordered(name, inverse))


@case(joins=True)
def q_heads_in_another_order(scene: Scene) -> Planted:
    """Permute the heads of queries, but not the columns of the output projection."""
    i, order = scene.layer(), scene.permutation(scene.config.query_heads)
    module = module_of(scene.model, i, "attn.q")
    put(module, by_rows(module.weight, order, scene.config.head_dim))
    taps = (text_tap(i, "attn.q"), text_tap(i, "attn.out"))
    return Planted(taps, either("heads_permuted", order), f"order={order}")


@case(joins=True)
def out_heads_in_another_order(scene: Scene) -> Planted:
    """Permute the columns of the output projection, by heads."""
    i, order = scene.layer(), scene.permutation(scene.config.query_heads)
    module = module_of(scene.model, i, "attn.out")
    put(module, by_columns(module.weight, order, scene.config.head_dim))
    return Planted((text_tap(i, "attn.out"),), either("heads_permuted", order), f"order={order}")


@case(on=("tiny",), joins=True)
def v_heads_in_another_order(scene: Scene) -> Planted:
    """Permute the heads of values, but not those of keys."""
    i, order = scene.layer(), scene.permutation(scene.config.kv_heads)
    module = module_of(scene.model, i, "attn.v")
    put(module, by_rows(module.weight, order, scene.config.head_dim))
    return Planted((text_tap(i, "attn.v"),), ordered("heads_permuted", order), f"order={order}")


@case(joins=True)
def gate_channels_in_another_order(scene: Scene) -> Planted:
    """Permute the channels of gate, but not those of up: two shards of a fused array exchanged."""
    i, width = scene.layer(), scene.config.ffn_width
    shards = scene.draw.choice([2, 4])
    blocks = scene.permutation(shards) if shards > 2 else [1, 0]
    order = torch.arange(width).unflatten(0, (shards, -1))[blocks].flatten().tolist()
    module = module_of(scene.model, i, "ffn.gate")
    put(module, module.weight[order])
    return Planted((text_tap(i, "ffn.gate"),), ordered("channels_permuted", order), f"{shards} shards as {blocks}")


@case(joins=True)
def interleaved_without_gains(scene: Scene) -> Planted:
    """Store q and k for interleaved rotation and rotate so, but leave the gains of their norms."""
    i, length = scene.layer(), scene.config.head_dim
    order = torch.arange(length).view(2, -1).T.flatten()
    for tap in ("attn.q", "attn.k"):
        module = module_of(scene.model, i, tap)
        put(module, module.weight.unflatten(0, (-1, length))[:, order].flatten(0, 1))
    attention(layer(scene.model, i).self_attn, rotate=interleaved)
    taps = (text_tap(i, "attn.q"), text_tap(i, "attn.q_norm"))
    answers = (*either("channels_permuted", order.tolist()), Answer("weights_not_in_the_basis"))
    return Planted(taps, answers, "gains not permuted")


@case(joins=True)
def signs_of_up(scene: Scene) -> Planted:
    """Turn the sign of some channels of up; down keeps its own."""
    i = scene.layer()
    channels = scene.some(range(scene.config.ffn_width), scene.config.ffn_width // 4)
    module = module_of(scene.model, i, "ffn.up")
    signs = torch.ones(scene.config.ffn_width)
    signs[channels] = -1
    put(module, module.weight * signs.to(module.weight.dtype)[:, None])
    taps = (text_tap(i, "ffn.up"), text_tap(i, "ffn.out"))
    return Planted(taps, (Answer("signs_reversed", {"channels": channels}),), f"{len(channels)} channels")


def factors(scene: Scene, length: int) -> torch.Tensor:
    """Draw a positive factor for each channel, as smoothing does."""
    generator = torch.Generator().manual_seed(scene.draw.randrange(2**31))
    return torch.exp(0.3 * torch.randn(length, generator=generator))


@case(joins=True)
def smoothed_gain_wrong(scene: Scene) -> Planted:
    """Fold a smoothing scale s into the norm as 1 + w/s, where (1 + w)/s is right."""
    i, s = scene.layer(), factors(scene, scene.config.width)
    norm = module_of(scene.model, i, "attn.pre_norm")
    put(norm, norm.weight.float() / s)
    for tap in ("attn.q", "attn.k", "attn.v"):
        module = module_of(scene.model, i, tap)
        put(module, module.weight.float() * s)
    taps = tuple(text_tap(i, tap) for tap in ("attn.pre_norm", "attn.q"))
    return Planted(taps, (Answer("norm_gain_scaled_before_one"),), "1 + w/s")


@case(joins=True)
def v_scales_left(scene: Scene) -> Planted:
    """Scale the channels of values; the output projection was forgotten."""
    i = scene.layer()
    module = module_of(scene.model, i, "attn.v")
    put(module, module.weight.float() * factors(scene, len(module.weight))[:, None])
    taps = (text_tap(i, "attn.v"), text_tap(i, "attn.out"))
    return Planted(taps, (Answer("channel_factors"),), "out not divided")


@case(prompt="images", on=("tiny",))
def images_in_another_order(scene: Scene) -> Planted:
    """Insert the soft tokens of three images in another order."""
    order = scene.permutation(3)
    plant_features(lambda x: [x[i] for i in order] if isinstance(x, (list, tuple)) else x[order])(scene.model, 0)
    return Planted(("model.merged",), ordered("images_permuted", order), f"order={order}")


@case(prompt="images", on=("tiny",))
def soft_tokens_in_another_order(scene: Scene) -> Planted:
    """Give the projector's output in another order of images."""
    order = scene.permutation(3)
    after(scene.model.model.multi_modal_projector, lambda x: x[order])
    return Planted(("vision.soft_tokens",), ordered("images_permuted", order), f"order={order}")


@case(prompt="rows", on=("tiny",))
def images_of_other_rows(scene: Scene) -> Planted:
    """Give each row of a batch another row's image."""
    order = scene.permutation(3)
    after(scene.model.model.multi_modal_projector, lambda x: x[order])
    answers = (*ordered("rows_permuted", order), *ordered("images_permuted", order))
    return Planted(("vision.soft_tokens",), answers, f"order={order}")


@case(prompt="rows", on=("tiny",))
def features_of_other_rows(scene: Scene) -> Planted:
    """Merge each row with the features of another row's image."""
    order = scene.permutation(3)
    plant_features(lambda x: [x[i] for i in order] if isinstance(x, (list, tuple)) else x[order])(scene.model, 0)
    answers = (*ordered("rows_permuted", order), *ordered("images_permuted", order))
    return Planted(("model.merged",), answers, f"order={order}")


@case(prompt="images", on=("tiny",))
def patches_in_another_order(scene: Scene) -> Planted:
    """Permute the patches of every image."""
    assert scene.vision is not None
    count = scene.vision.side**2
    order = scene.permutation(count)
    after(vision(scene.model).embeddings.patch_embedding, lambda x: x.flatten(2)[..., order].view(x.shape))
    return Planted(("vision.patch_embed",), ordered("patches_permuted", order), f"{count} patches")


@case(joins=True)
def tokens_in_another_order(scene: Scene) -> Planted:
    """Exchange chunks of the embedded tokens."""
    half = scene.draw.randint(3, scene.tokens // 2)
    start = scene.draw.randint(0, scene.tokens - 2 * half)
    order = list(range(scene.tokens))
    order[start : start + 2 * half] = [*order[start + half : start + 2 * half], *order[start : start + half]]

    forward(text(scene.model).embed_tokens, lambda self, original, ids: original(ids)[:, order])
    return Planted(("text.embed",), ordered("tokens_permuted", order), f"{half} tokens from {start} exchanged")
