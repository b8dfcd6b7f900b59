"""The text model: embedding, layers, final norm, tied head."""

from typing import Any, Literal, NamedTuple

import numpy as np

from ref.config import TextConfig
from ref.errors import wanted
from ref.model.block import Place, block
from ref.model.cache import Cache
from ref.model.params import TextParams
from ref.model.taps import SILENCE, Scope, Taps
from ref.ops import KERNEL, Ops
from ref.ops.rope import rope_table
from ref.ops.visibility import visible_ranges


class How(NamedTuple):
    """How a pass is run: which ops, in which dtype, and who listens."""

    ops: Ops = KERNEL
    dtype: type = np.float32
    taps: Taps = SILENCE
    logits: Literal["all", "last", "none"] = "all"


def forward(params: TextParams, ids, how: How = How(), cache: Cache | None = None, first=None) -> tuple[Any, Any]:  # noqa: B008
    """Run the text model over the tokens of one pass.

        h = embed(ids) * sqrt(D);  h = block_i(h), i = 0 .. L-1;  logits = rms_norm(h) @ embedding.T

    Args:
        params: the parameters.
        ids: [B, T] integers, 0 <= id < V; what a padded slot holds is irrelevant.
        how: ops, dtype, taps, and which logits to form.
        cache: keys so far, consumed; the tokens continue its rows. None to run without.
        first: without a cache, [B] left pads of each row or [B, T] index where each token's prompt starts (see
            `ops.visibility.prompt_starts`, for packed prompts); None is no pads. With a cache, leave it None.

    Returns:
        (logits, cache): logits [B, T, V] of `how.dtype`, [B, 1, V] for "last", None for "none"; the cache after the
        pass or None.

    Raises:
        BadInput: ids of another shape or type, empty, negative, >= V, or more than the context holds; a cache value
            that an earlier pass has consumed.

    Source: transformers 5.23 `Gemma3ForCausalLM`; google-deepmind/gemma `Transformer`.
    Differs: the head is the unscaled embedding, without the softcap of Gemma 2.
    """
    c = params.config
    ids = check_ids(ids, c)
    first = _first(ids.shape, first, cache)
    start = _enter(ids, cache, c)
    places = [place_tokens(c, layer, first, start, how.dtype) for layer in _one_of_each_kind(c)]
    h = how.taps("text.embed", how.ops.embed(ids, params.embedding, np.sqrt(np.float64(c.width)), how.dtype))
    layer_caches = []
    for i, layer in enumerate(params.layers):
        tap = Scope(how.taps, f"text.layer.{i}.") if how.taps is not SILENCE else SILENCE
        layer_cache = cache.layers[i] if cache else None
        h, layer_cache = block(h, layer, places[c.is_global(i)], layer_cache, c, how.ops, tap)
        layer_caches.append(layer_cache)
    if cache:
        cache = cache._replace(layers=tuple(layer_caches))
    if how.logits == "none":
        return None, cache
    h = h if how.logits == "all" else h[:, -1:]
    h = how.taps("text.final_norm", how.ops.rms_norm(h, params.final_norm, c.rms_eps))
    return how.taps("text.logits", how.ops.linear(h, params.embedding)), cache


def check_ids(ids, c: TextConfig, where: object = "ids"):
    """Return the ids as a [B, T] int64 array, or refuse them.

    Args:
        ids: anything NumPy can make an array of.
        c: the configuration, whose vocabulary and context bound them.
        where: what to call them in a refusal.

    Raises:
        BadInput: not two axes of integers, empty, negative, >= V, more than `max_positions` a row.
    """
    try:
        array = np.asarray(ids)
    except ValueError:  # rows of unequal length
        raise wanted("token ids", where, "rows of equal length", "unequal ones") from None
    if array.size == 0:
        raise wanted("token ids", where, "at least one", "none")
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise wanted("token ids", where, "integers of shape [B, T]", f"{array.dtype} of shape {list(array.shape)}")
    if array.min() < 0 or array.max() >= c.vocabulary:
        bad = array[(array < 0) | (array >= c.vocabulary)][0]
        raise wanted("token id", where, f"0 <= id < {c.vocabulary}", bad)
    if array.shape[1] > c.max_positions:
        raise wanted("token ids", where, f"at most the context, {c.max_positions}", array.shape[1])
    return array.astype(np.int64)


def place_tokens(c: TextConfig, layer: int, first, start: int, dtype) -> Place:
    """Work out rotations and visibility of a pass for layers of the same kind as `layer`.

    Args:
        c: the configuration.
        layer: any layer of the kind.
        first: [B, T] index of the first key of each token's prompt.
        start: keys cached before this pass.
        dtype: of the rotation tables.

    Source: `ops.rope`, `ops.visibility`.
    Differs: no known.
    """
    positions = np.maximum(start + np.arange(first.shape[1]) - first, -1)
    base, factor = c.rope(layer)
    cos, sin = rope_table(np.maximum(positions, 0), c.head_dim, base, factor, dtype)
    return Place(cos, sin, visible_ranges(first, start, c.window_of(layer)), positions)


def _one_of_each_kind(c: TextConfig):
    """Return a local and a global layer; indexing the places made of them with `is_global` gives the right one."""
    return c.global_every - 2 if c.global_every > 1 else 0, c.global_every - 1


def _first(shape, first, cache: Cache | None):
    if cache is not None:
        first = cache.first
    first = np.zeros(shape[0], np.int64) if first is None else np.asarray(first, np.int64)
    return np.broadcast_to(first[:, None] if first.ndim == 1 else first, shape)


def _enter(ids, cache: Cache | None, c: TextConfig) -> int:
    """Return the key index of the pass's first token, having claimed the cache value for this pass."""
    if cache is None:
        return 0
    if cache.clock[0] != cache.written:
        raise wanted("cache", "forward", "a value no pass has consumed (copy_cache forks one)", "a consumed one")
    if len(ids) != len(cache.first):
        raise wanted("token ids", "forward", f"{len(cache.first)} rows, as the cache has", len(ids))
    slots = cache.layers[c.global_every - 1].k.shape[1] if c.layers >= c.global_every else c.max_positions
    if cache.written + ids.shape[1] > slots:
        raise wanted("tokens", "cache", f"at most its context, {slots}", cache.written + ids.shape[1])
    cache.clock[0] += ids.shape[1]
    return cache.written
