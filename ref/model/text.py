"""The text model: embedding, layers, final norm, head."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ref.config import TextConfig
from ref.errors import wanted
from ref.model.block import Place, block
from ref.model.cache import Cache
from ref.model.inputs import SoftTokens, ids_and_places, insert
from ref.model.params import TextParams
from ref.model.taps import SILENCE, Scope, Taps
from ref.ops import KERNEL, Ops
from ref.ops.rope import rope_table
from ref.ops.visibility import Composition, image_blocks, visible_ranges


class How(NamedTuple):
    """How a pass is run: which ops, in which dtype, and who listens."""

    ops: Ops = KERNEL
    dtype: type = np.float32
    taps: Taps = SILENCE
    logits: Literal["all", "last", "none"] = "all"
    composition: Composition = "current"  # how window and image block go together, see `ops.visibility`


def forward(
    params: TextParams,
    ids: ArrayLike,
    how: How = How(),  # noqa: B008
    cache: Cache | None = None,
    first: ArrayLike | None = None,
    soft: SoftTokens | None = None,
) -> tuple[Any, Any]:
    """Run the text model over the tokens of one pass.

        h = embed(ids) * sqrt(D);  h[soft] = rows;  h = block_i(h), i = 0 .. L-1;  logits = rms_norm(h) @ head.T

    Args:
        params: the parameters.
        ids: [B, T] integers, 0 <= id < V; what a padded slot or a soft token's place holds is irrelevant.
        how: ops, dtype, taps, and which logits to form.
        cache: keys so far, consumed; the tokens continue its rows. None to run without.
        first: without a cache, [B] left pads of each row or [B, T] index where each token's prompt starts (see
            `ops.visibility.prompt_starts`, for packed prompts); None is no pads. With a cache, leave it None.
        soft: image features, inserted as they are, without the factor sqrt(D); `ref.model.multimodal` makes them.

    Returns:
        (logits, cache): logits [B, T, V] of `how.dtype`, [B, 1, V] for "last", None for "none"; the cache after the
        pass or None.

    Raises:
        BadInput: ids of another shape or type, empty, negative, >= V, or more than the context holds; a cache value
            that an earlier pass has consumed; features unlike their places in number or width; a pass that begins
            inside an image block.

    Source: transformers 5.23 `Gemma3ForCausalLM`, `Gemma3Model`; google-deepmind/gemma `Transformer`.
    Differs: the head is the unscaled embedding, unless weights have one of their own; no softcap of Gemma 2.
    """
    c = params.config
    ids, places = ids_and_places(ids, soft, c)
    first = _first(ids.shape, first, cache)
    start = _enter(ids, places, cache, c)
    blocks = image_blocks(places, first, start) if soft else None
    kinds = [place_tokens(c, layer, first, start, how, blocks) for layer in _one_of_each_kind(c)]
    h = how.taps("text.embed", how.ops.embed(ids, params.embedding, np.sqrt(np.float64(c.width)), how.dtype))
    if soft:
        h = how.taps("model.merged", insert(h, soft.rows, places))
    layer_caches = []
    for i, layer in enumerate(params.layers):
        tap = Scope(how.taps, f"text.layer.{i}.") if how.taps is not SILENCE else SILENCE
        layer_cache = cache.layers[i] if cache else None
        h, layer_cache = block(h, layer, kinds[c.is_global(i)], layer_cache, c, how.ops, tap)
        layer_caches.append(layer_cache)
    if cache:
        cache = cache._replace(layers=tuple(layer_caches), in_image=places[:, -1])
    if how.logits == "none":
        return None, cache
    h = h if how.logits == "all" else h[:, -1:]
    h = how.taps("text.final_norm", how.ops.rms_norm(h, params.final_norm, c.rms_eps))
    return how.taps("text.logits", how.ops.linear(h, params.unembedding)), cache


def place_tokens(
    c: TextConfig, layer: int, first: np.ndarray, start: int, how: How, blocks: np.ndarray | None = None
) -> Place:
    """Work out rotations and visibility of a pass for layers of the same kind as `layer`.

    Args:
        c: the configuration.
        layer: any layer of the kind.
        first: [B, T] index of the first key of each token's prompt.
        start: keys cached before this pass.
        how: dtype of the rotation tables, composition of window and block.
        blocks: [B, T, 2] image block of each token; None where there is no image.

    Source: `ops.rope`, `ops.visibility`.
    """
    positions = np.maximum(start + np.arange(first.shape[1]) - first, -1)
    base, factor = c.rope(layer)
    cos, sin = rope_table(np.maximum(positions, 0), c.head_dim, base, factor, how.dtype)
    return Place(cos, sin, visible_ranges(first, start, c.window_of(layer), blocks, how.composition), positions)


def _one_of_each_kind(c: TextConfig):
    """Return a local and a global layer; indexing the places made of them with `is_global` gives the right one."""
    return c.global_every - 2 if c.global_every > 1 else 0, c.global_every - 1


def _first(shape, first, cache: Cache | None):
    if cache is not None:
        first = cache.first
    first = np.zeros(shape[0], np.int64) if first is None else np.asarray(first, np.int64)
    return np.broadcast_to(first[:, None] if first.ndim == 1 else first, shape)


def _enter(ids, places, cache: Cache | None, c: TextConfig) -> int:
    """Return the key index of the pass's first token, having claimed the cache value for this pass."""
    if cache is None:
        return 0
    if cache.clock[0] != cache.written:
        raise wanted("cache", "forward", "a value no pass has consumed (copy_cache forks one)", "a consumed one")
    if len(ids) != len(cache.first):
        raise wanted("token ids", "forward", f"{len(cache.first)} rows, as the cache has", len(ids))
    if (cache.in_image & places[:, 0]).any():
        raise wanted("image block", "forward", "to lie in one pass", "one that began in the pass before")
    slots = cache.layers[c.global_every - 1].k.shape[1] if c.layers >= c.global_every else c.max_positions
    if cache.written + ids.shape[1] > slots:
        raise wanted("tokens", "cache", f"at most its context, {slots}", cache.written + ids.shape[1])
    cache.clock[0] += ids.shape[1]
    return cache.written
