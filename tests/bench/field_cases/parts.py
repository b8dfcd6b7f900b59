"""Mistakes of a part only: shards that are missing, some tokens, ids, images or heads.

Source: huggingface/peft#2809 (trained rows without the scale); chunked feed-forward networks whose last chunk is lost.
"""

import torch
from support.plant_text import mlp
from support.planting import forward, layer, text

from .case import Answer, AnyOf, Planted, Scene, case, text_tap
from .helpers import change_logits, module_of, rotate_at


def missing(axis: str | tuple[str, ...], start: int, stop: int) -> tuple[Answer, ...]:
    """Name a part that is 0."""
    axes = AnyOf(axis) if isinstance(axis, tuple) else axis
    return (Answer("part_missing", {"axis": axes, "start": start, "stop": stop}),)


def only(mutant: str, axis: str, which: list[int]) -> Answer:
    """Name a mistake that part of a tensor has."""
    return Answer(mutant, {"axis": axis, "which": which})


def rows_to_zero(scene: Scene, i: int, tap: str, start: int, stop: int) -> None:
    """Lose some rows of a projection."""
    with torch.no_grad():
        module_of(scene.model, i, tap).weight[start:stop] = 0


@case(joins=True)
def shard_of_heads_missing(scene: Scene) -> Planted:
    """Lose the heads of one shard of the queries."""
    i, length = scene.layer(), scene.config.head_dim
    start, stop = scene.span(scene.config.query_heads)
    rows_to_zero(scene, i, "attn.q", start * length, stop * length)
    return Planted((text_tap(i, "attn.q"),), missing("heads", start, stop), f"heads {start} to {stop - 1}")


@case(joins=True)
def shard_of_channels_missing(scene: Scene) -> Planted:
    """Lose the channels of one shard of a projection."""
    i, tap = scene.layer(), scene.draw.choice(["ffn.gate", "ffn.up", "ffn.out", "attn.out"])
    start, stop = scene.span(len(module_of(scene.model, i, tap).weight))
    rows_to_zero(scene, i, tap, start, stop)
    return Planted((text_tap(i, tap),), missing("channels", start, stop), f"{tap} {start} to {stop - 1}")


@case(joins=True)
def last_chunk_missing(scene: Scene) -> Planted:
    """Run a feed-forward network in chunks and forget the last, shorter one."""
    i, width = scene.layer(), scene.config.ffn_width
    chunk = scene.draw.choice([size for size in (*range(5, 20), 300, 500, 600) if width > 2 * size and width % size])
    start = width - width % chunk

    def act(self, x):
        out = self.act_fn(self.gate_proj(x)) * self.up_proj(x)
        out[..., start:] = 0
        return out

    mlp(act)(scene.model, i)
    return Planted((text_tap(i, "ffn.act"),), missing("channels", start, width), f"chunks of {chunk}")


@case(joins=True)
def shard_of_vocabulary_missing(scene: Scene) -> Planted:
    """Lose a shard of the head."""
    count = scene.config.vocabulary
    shard = -(-count // scene.draw.choice([4, 8]))
    start = scene.draw.randrange(count // shard) * shard
    stop = min(count, start + shard)

    def change(logits):
        logits = logits.clone()
        logits[..., start:stop] = 0
        return logits

    change_logits(scene.model, change)
    answers = missing(("channels", "vocabulary", "ids"), start, stop)
    return Planted(("text.logits",), answers, f"rows {start} to {stop - 1}")


@case(joins=True)
def trained_rows_unscaled(scene: Scene) -> Planted:
    """Give the rows of a few ids without the embedding's scale."""
    ids = scene.prompt.ids
    hit = scene.some(sorted(set(ids[1:])), 3)

    def run(self, original, given):
        plain = torch.nn.functional.embedding(given, self.weight)
        return torch.where(torch.isin(given, torch.tensor(hit))[..., None], plain, original(given))

    forward(text(scene.model).embed_tokens, run)
    tokens = [place for place, one in enumerate(ids) if one in hit]
    answers = (only("embed_unscaled", "ids", hit), only("embed_unscaled", "tokens", tokens))
    return Planted(("text.embed",), answers, f"ids {hit}")


@case(joins=True)
def late_chunk_unrotated(scene: Scene) -> Planted:
    """Rotate nothing from some token on, in a layer."""
    i, start = scene.layer(), scene.draw.randint(6, scene.tokens - 6)
    unturned = lambda p: torch.where(p < start, p, 0)  # noqa: E731
    rotate_at(scene.model, i, unturned, unturned)
    tokens = list(range(start, scene.tokens))
    values = [*range(start), *[0] * len(tokens)]
    answers = (only("rope_missing", "tokens", tokens), Answer("positions_of_tokens", {"values": values}))
    return Planted((text_tap(i, "attn.q_rope"),), answers, f"tokens from {start} on")


@case(joins=True)
def late_chunk_shifted(scene: Scene) -> Planted:
    """Count the offset of a second chunk twice, in a layer."""
    i, start = scene.layer(), scene.draw.randint(6, scene.tokens - 6)
    twice = lambda p: torch.where(p < start, p, p + start)  # noqa: E731
    rotate_at(scene.model, i, twice, twice)
    values = [p if p < start else p + start for p in range(scene.tokens)]
    shifted = Answer("positions_shifted", {"n": start, "which": list(range(start, scene.tokens))})
    answers = (shifted, Answer("positions_of_tokens", {"values": values}))
    return Planted((text_tap(i, "attn.q_rope"),), answers, f"tokens from {start} on")


@case(joins=True)
def some_heads_unnormed(scene: Scene) -> Planted:
    """Leave the queries of some heads without their norm."""
    i, count = scene.layer(), scene.config.query_heads
    heads = scene.some(range(count), scene.draw.randint(1, count // 2))

    def run(self, original, x):  # [B, N, T, H]
        out = original(x)
        out[:, heads] = x[:, heads]
        return out

    forward(layer(scene.model, i).self_attn.q_norm, run)
    return Planted((text_tap(i, "attn.q_norm"),), (only("q_norm_missing", "heads", heads),), f"heads {heads}")


@case(joins=True)
def some_channels_unactivated(scene: Scene) -> Planted:
    """Leave a shard of gate without its activation."""
    i = scene.layer()
    start, stop = scene.span(scene.config.ffn_width)

    def act(self, x):
        gate = self.gate_proj(x)
        out = self.act_fn(gate)
        out[..., start:stop] = gate[..., start:stop]
        return out * self.up_proj(x)

    mlp(act)(scene.model, i)
    answers = (only("ffn_no_activation", "channels", list(range(start, stop))),)
    return Planted((text_tap(i, "ffn.act"),), answers, f"channels {start} to {stop - 1}")


@case(prompt="images", on=("tiny",))
def one_image_unnormed(scene: Scene) -> Planted:
    """Leave the soft tokens of one image without their norm."""
    which = scene.draw.randrange(3)

    def run(self, original, x):
        out = original(x)
        out[which] = x[which].to(out.dtype)
        return out

    forward(scene.model.model.multi_modal_projector.mm_soft_emb_norm, run)
    return Planted(("vision.soft_norm",), (only("soft_norm_missing", "images", [which]),), f"image {which}")
