"""Run transformers on a batch: the prompt as one pass, each greedy cached step as another, as `generate` feeds it."""

from collections.abc import Sequence
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from ref.capture.prompts import blocks_of, check_ids, check_pads, images_of
from ref.capture.rows import Rows
from ref.capture.transformers.caches import hear_cache
from ref.capture.transformers.listen import Listener
from ref.capture.transformers.model import import_transformers, text_model, vision_config, vision_tower
from ref.capture.transformers.tensors import to_numpy
from ref.capture.transformers.wrapped import device_of, unwrapped
from ref.errors import wanted


class Batch(NamedTuple):
    """What a model is run on, as its tensors."""

    ids: Any  # [B, T]
    pixels: Any  # [images, C, Y, X] or None
    types: Any  # [B, T], 1 at soft tokens, or None
    pads: list[int] | None  # of each row; None for a run without mask
    blocks: list[list[list[int]]]  # of each row, [start, stop] of each image
    images: list[slice]  # of each row, which images are its
    right: list[int] | None = None  # right pads of each row
    packed: list[int] | None = None  # lengths of the prompts in the only row


def check_batch(
    model: Any,
    ids: Any,
    pixels: Any,
    types: Any,
    left_pads: Sequence[int] | None,
    right_pads: Sequence[int] | None = None,
    packed: Sequence[int] | None = None,
) -> Batch:
    """Turn the arguments of `capture` into what the model is run on.

    Args:
        model: transformers'.
        ids, pixels, types, left_pads, right_pads, packed: as `capture`.

    Raises:
        BadInput: shapes that do not go together, ids out of the vocabulary, pixels without a tower, images and their
            soft tokens unlike each other.

    Source: transformers 5.23 `Gemma3Model.get_placeholder_mask`.
    Differs: transformers counts over the whole batch; here every row must have whole images.
    """
    torch, _ = import_transformers()
    text, vision = text_model(model), vision_config(model)
    device = device_of(model)
    rows = _integers(torch, "token ids", ids, device)
    soft = torch.zeros_like(rows, dtype=torch.bool)
    if pixels is not None:
        if vision is None:
            raise wanted("pixel_values", "capture", "a model with a vision tower", type(model).__name__)
        pixels = torch.as_tensor(pixels).to(device, vision_tower(model).embeddings.patch_embedding.weight.dtype)
        _check_pixels(pixels, vision)
        soft = rows == model.config.image_token_id
        types = soft.long() if types is None else types
    if types is not None:
        types = _integers(torch, "token_type_ids", types, device)
        if types.shape != rows.shape:
            raise wanted("token_type_ids", "capture", f"{list(rows.shape)}, as ids", list(types.shape))
        if pixels is None and types.any():
            raise wanted("token_type_ids", "capture", "zeros where there are no pixel_values", "others")
    table = text.embed_tokens
    check_ids(rows[~soft], getattr(table, "num_embeddings", None) or len(table.weight))
    images = images_of(soft, 0 if pixels is None else len(pixels), vision)
    blocks = [blocks_of(row) for row in soft.cpu().numpy()]
    if sum(one is not None for one in (left_pads, right_pads, packed)) > 1:
        raise wanted("pads", "capture", "left_pads, right_pads or packed", "several of them")
    left, right = (
        check_pads(given, rows.shape, what) for given, what in ((left_pads, "left_pads"), (right_pads, "right_pads"))
    )
    return Batch(rows, pixels, types, left, blocks, images, right, _check_packed(packed, rows))


def _integers(torch, what: str, values: Any, device) -> Any:
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise wanted(what, "capture", "integers [T] or [B, T]", values) from None
    tensor = tensor[None] if tensor.ndim == 1 else tensor
    if tensor.ndim != 2 or tensor.numel() == 0 or tensor.is_floating_point() or tensor.is_complex():
        raise wanted(what, "capture", "integers [T] or [B, T]", f"{tensor.dtype} {list(tensor.shape)}")
    return tensor.to(device).long()


def _check_pixels(pixels: Any, vision) -> None:
    want = [vision.channels, vision.image, vision.image]
    if pixels.ndim != 4 or len(pixels) == 0 or list(pixels.shape[1:]) != want:
        raise wanted("pixel_values", "capture", f"[images, {', '.join(map(str, want))}]", list(pixels.shape))


def _check_packed(packed: Sequence[int] | None, rows: Any) -> list[int] | None:
    if packed is None:
        return None
    lengths = [int(count) for count in packed]
    if len(rows) != 1 or min(lengths, default=0) < 1 or sum(lengths) != rows.shape[1]:
        raise wanted("packed", "capture", f"lengths of the prompts of one row, {rows.shape[1]} in all", lengths)
    return lengths


def run(model: Any, batch: Batch, steps: int, cache: Any, listener: Listener, rows: Rows) -> None:
    """Run the prompt and its greedy steps.

    Args:
        model: transformers', listened to.
        batch: the prompt.
        steps: how many tokens of each row to choose and run.
        cache: transformers', or None without steps.
        listener: is told where passes begin.
        rows: takes the values.

    Source: transformers 5.23 `GenerationMixin._prepare_position_ids_for_generation`, `_sample`.
    Differs: no stop at any id; the last chosen token is run too, as in `ref.dump.trace`.
    """
    torch, _ = import_transformers()
    todo, before = batch.ids, 0
    with torch.no_grad():
        for step in range(steps + 1):
            chosen = run_pass(model, batch, todo, before, cache, listener, rows)
            before = before + todo.shape[1]
            if step < steps:
                todo = _chosen(chosen)


def run_pass(
    model: Any,
    batch: Batch,
    todo: Any,
    before: int,
    cache: Any,
    listener: Listener,
    rows: Rows,
    heard: bool = True,
    more: dict[str, Any] | None = None,
) -> Any:
    """Run one pass.

    Args:
        model: transformers', listened to.
        batch: what the pass is of.
        todo: [B, T] its tokens: the batch's own, or a step's.
        before: keys in the cache.
        cache: transformers', or None.
        listener: is told where the pass begins.
        rows: takes the values.
        heard: whether the values are wanted.
        more: what else the dump says of the pass.

    Returns:
        Logits of the last token, which is no padding; None of a model that gives none.
    """
    torch, _ = import_transformers()
    own = todo is batch.ids
    images = batch.images if own else [slice(0, 0)] * len(todo)
    if heard:
        listener.begin(before, todo.shape[1], images, batch.pads or [0] * len(todo), rows.keep)
    with hear_cache(cache, listener):
        out = model(input_ids=todo.clone(), **_arguments(torch, batch, before, todo), **_cached(model, cache))
    logits = getattr(out, "logits", None)
    logits = out[0] if logits is None else logits
    del out
    chosen = None
    if heard:
        vocabulary = model.config.get_text_config().vocab_size
        chosen = _hear_logits(listener, logits, vocabulary, batch.right if own else None)
        listener.end()
    about, pixels = _about(batch, before, todo)
    rows.end_pass([one | (more or {}) for one in about], pixels)
    return chosen


def _hear_logits(listener: Listener, logits: Any, vocabulary: int, right: list[int] | None = None) -> Any:
    """Hand on the logits, and return those of the last token; None where a model gives something else, as classes."""
    of_tokens = hasattr(logits, "detach") and logits.ndim == 3 and logits.shape[-1] == vocabulary
    if of_tokens and logits.shape[1] == listener.tokens:
        listener.tap("text.logits", logits)
    else:
        want = f"wanted [B, {listener.tokens}, {vocabulary}] of the model"
        listener.leave("text.logits", f"{want}, got {list(getattr(logits, 'shape', [])) or type(logits).__name__}")
    if not of_tokens or right is None:
        return logits[:, -1] if of_tokens else None
    return logits[list(range(len(right))), [listener.tokens - 1 - pads for pads in right]]


def _chosen(logits: Any) -> Any:
    if logits is None:
        raise wanted("steps", "capture", "0 of a model without a vocabulary's logits", "more")
    return logits.argmax(-1)[:, None]


def _cached(model: Any, cache: Any) -> dict[str, Any]:
    """Return the arguments that say of a cache; transformers 5.24 has another name for it."""
    if cache is None:
        return {"use_cache": False}
    known = signature(type(unwrapped(model)).forward).parameters
    return {"cache" if "cache" in known else "past_key_values": cache, "use_cache": True}


def _arguments(torch, batch: Batch, before: int, todo: Any) -> dict[str, Any]:
    """Return mask and positions of rows with pads, and the images of the first pass."""
    given, own = {}, todo is batch.ids
    if own and batch.pixels is not None:
        given["pixel_values"] = batch.pixels.clone()  # a patched model may write over what it is given
    if own and batch.types is not None:
        given["token_type_ids"] = batch.types.clone()
    if batch.pads is not None or batch.right is not None:
        key = torch.arange(before + todo.shape[1], device=todo.device)[None]
        left, right = (torch.tensor(some or [0] * len(todo), device=todo.device) for some in (batch.pads, batch.right))
        prompt = batch.ids.shape[1]
        mask = ((key >= left[:, None]) & ((key < (prompt - right)[:, None]) | (key >= prompt))).long()
        positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)
        given |= {"attention_mask": mask, "position_ids": positions[:, before:]}
    if batch.packed is not None:
        given["position_ids"] = torch.cat([torch.arange(n, device=todo.device) for n in batch.packed])[None]
    return given


def _about(batch: Batch, before: int, todo: Any) -> tuple[list[dict[str, Any]], list[np.ndarray | None]]:
    """Say of each row what the dump says of a pass, and return the pixels that went in."""
    rows, pixels = [], []
    key = np.arange(before, before + todo.shape[1])
    for row, ids in enumerate(todo.tolist()):
        pads = batch.pads[row] if batch.pads else 0
        blocks = [[start + before, stop + before] for start, stop in batch.blocks[row]] if todo is batch.ids else []
        positions = _positions(batch, row, key, pads)
        about = {"ids": ids, "positions": positions, "cached": before, "image_blocks": blocks, "left_pads": pads}
        rows.append(about)
        own = batch.pixels[batch.images[row]] if blocks and batch.pixels is not None else None
        pixels.append(None if own is None else to_numpy(own))
    return rows, pixels


def _positions(batch: Batch, row: int, key: np.ndarray, pads: int) -> list[int]:
    """Return the positions of keys of a row, -1 on padding."""
    if batch.packed:
        return [position for count in batch.packed for position in range(count)]
    right, prompt = batch.right[row] if batch.right else 0, batch.ids.shape[1]
    position = np.where(key < prompt, key - pads, key - pads - right)
    return np.where((key >= prompt - right) & (key < prompt), -1, np.maximum(position, -1)).tolist()
