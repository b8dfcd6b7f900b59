"""What a pass is run with, as the judge sees it: tokens, positions, images, weights by stage."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ref.config import PAD, TextConfig
from ref.emulate.operands import kind_of, to_float16
from ref.model.multimodal import soft_token_id
from ref.model.params import LayerParams, TextParams, VisionLayerParams, VisionParams
from ref.ops.blocks import Blocks
from ref.ops.linear import ByRows, Weight, take_rows, widen_jit
from ref.ops.rounding import bfloat16_values
from ref.ops.visibility import Composition, image_blocks, visible_ranges
from ref.weights.adapted import Adapted

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


class Unknown(Exception):
    """A value that cannot be computed from what the dump and the weights hold."""


def as_held(weight: Weight, held: str) -> np.ndarray:
    """Return the values of a weight, rounded to the format that a producer held it in.

    Args:
        weight: a Weight [O, I] or a vector.
        held: `bfloat16` and `float16` round; anything else leaves the file's values.

    Returns:
        The same shape, float32, or float64 where the weight has it.

    Rounding: to nearest even.
    Source: torch's `.to(dtype)`; it changes 97 % of the values of the quantised 270M.
    Differs: of a matrix with an adapter that is not merged the base alone is rounded, and the sum is float64.
    """
    if isinstance(weight, Adapted):
        return weight.held(partial(as_held, held=held))
    wide = widen_jit(weight)
    if held == "bfloat16":
        return wide if getattr(weight, "dtype", None) == np.uint16 else bfloat16_values(wide)
    return to_float16(wide) if held == "float16" else wide


def rows_as_held(weight: Weight, rows: slice | np.ndarray, held: str) -> np.ndarray:
    """Return the values of some rows of a weight [O, I], as `as_held` does."""
    if isinstance(weight, Adapted):
        return weight.held(partial(as_held, held=held), rows)
    return as_held(take_rows(weight, rows), held)


UNPREPARED = ("config", "layers", "embedding", "head")
Params = TypeVar("Params", LayerParams, VisionLayerParams, TextParams, VisionParams)


def prepare(params: Params, held: str, dtype: DTypeLike) -> Params:
    """Return parameters whose weights are float arrays, as the producer held them; layers, embedding and head stay.

    Args:
        params: of one layer, or of a model.
        held: see `as_held`.
        dtype: of the arrays.
    """
    ready = {}
    for name, weight in params._asdict().items():
        if name not in UNPREPARED:
            ready[name] = np.ascontiguousarray(as_held(weight, held), dtype)
    return params._replace(**ready)


def widened(params: Params, narrow: Params, held: str) -> Params:
    """Return parameters for float64 operations that multiply in float32: only what float32 does not hold is float64.

    Args:
        params: as they lie in their file.
        narrow: the same as float32, from `prepare`; matrices of which these are all there is are shared.
        held: see `as_held`.
    """
    wide = {}
    for name, weight in params._asdict().items():
        made = getattr(narrow, name)
        exact = isinstance(weight, Blocks) or getattr(weight, "dtype", np.float64) in (
            np.float32,
            np.float16,
            np.uint16,
        )
        shared = name in UNPREPARED or (exact and made.ndim > 1)
        wide[name] = made if shared else np.ascontiguousarray(as_held(weight, held), np.float64)
    return params._replace(**wide)


def _is_exact(weight: Weight) -> bool:
    """Tell whether float32 holds all that a weight of a file has."""
    return isinstance(weight, Blocks) or getattr(weight, "dtype", None) in (np.float32, np.float16, np.uint16)


class Table(ByRows):
    """A matrix whose rows are made when they are asked for, and that still knows the format of its file."""

    kind: str = "F32"


def _made(table: Table, rows: slice | np.ndarray, dtype: DTypeLike | None) -> Table:
    values = table.take_rows(rows)
    values = values if dtype is None else values.astype(dtype, copy=False)
    made = Table(values.shape, lambda some: values[some])
    made.kind = table.kind
    return made


class OnePass(NamedTuple):
    """One pass of one batch row."""

    config: TextConfig
    text: TextParams
    vision: VisionParams | None
    ids: np.ndarray  # [1, T]; a soft token's place holds PAD
    places: np.ndarray  # [1, T] bool, soft tokens
    positions: np.ndarray  # [1, T], -1 on pads
    first: np.ndarray  # [1, T] index of the first key of each token's prompt
    cached: int
    pixels: np.ndarray | None
    composition: Composition
    held: str  # the dtype that the producer held its weights in
    earlier: np.ndarray  # [cached] positions of the keys of earlier passes
    kept: np.ndarray | None = None  # [cached] which keys of the pass before are left; None: all
    moved: np.ndarray | None = None  # [cached] by how many positions each was turned since

    @property
    def total(self) -> int:
        """Keys after this pass."""
        return self.cached + self.ids.shape[1]

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self.config.layers

    @property
    def table(self) -> Table:
        """The embedding, as the producer held it."""
        return self._by_rows(self.text.embedding)

    @property
    def head(self) -> Table:
        """What makes the logits, as the producer held it: the embedding where it is tied."""
        return self._by_rows(self.text.unembedding)

    def _by_rows(self, weight: Weight) -> Table:
        table = Table(weight.shape, lambda rows: rows_as_held(weight, rows, self.held))
        table.kind = kind_of(weight)
        return table

    def narrowed(self, columns: slice | np.ndarray, dtype: DTypeLike | None = None) -> "OnePass":
        """Return the same pass with some columns of the logits only.

        Args:
            columns: which rows of the head, made once, as the producer held them; with them those of the embedding.
            dtype: that they are widened to; None leaves them.
        """
        text = self.text._replace(embedding=_made(self.table, columns, dtype))
        if self.text.head is not None:
            text = text._replace(head=_made(self.head, columns, dtype))
        return self._replace(text=text, held="file")

    @property
    def begin(self) -> int:
        """Index of the key with which the row's first prompt begins: how many left pads it has."""
        return int((self.earlier < 0).sum()) if self.cached else int(self.first[0, 0])

    @property
    def is_packed(self) -> bool:
        """Tell whether a token of the pass is of another prompt than the row's first."""
        return bool((self.first > self.begin).any())

    @property
    def valid(self) -> np.ndarray:
        """[T] bool, False on padding."""
        return self.cached + np.arange(self.ids.shape[1]) >= self.first[0, 0]

    def blocks(self) -> np.ndarray | None:
        """Return each token's image block, None without images."""
        return image_blocks(self.places, self.first, self.cached) if self.places.any() else None

    def visible(self, layer: int, window: Any = "own") -> np.ndarray:
        """Return the ranges of keys that queries of a layer see."""
        window = self.config.window_of(layer) if window == "own" else window
        return visible_ranges(self.first, self.cached, window, self.blocks(), self.composition)

    def cached_positions(self) -> np.ndarray:
        """Return the positions of all keys, oldest first."""
        return np.concatenate([self.earlier[None], self.positions], axis=1)


def pass_of(
    loaded: "Loaded",
    ids: Sequence[int] | np.ndarray,
    *,
    positions: ArrayLike | None = None,
    cached: int = 0,
    left_pads: int = 0,
    blocks: Sequence[Sequence[int]] | np.ndarray | None = None,
    pixels: np.ndarray | None = None,
    composition: Composition = "current",
    held: str = "file",
    before: "OnePass | None" = None,
    kept: np.ndarray | None = None,
    moved: np.ndarray | None = None,
) -> OnePass:
    """Put together what one pass is run with.

    Args:
        loaded: weights, from `ref.weights.resolve.load`.
        ids: [T] integers of this pass.
        positions: [T], -1 on pads; restarts tell where packed prompts begin, behind cached keys those within the pass
            alone. None counts from the cached tokens on.
        cached: keys of earlier passes.
        left_pads: pads of the row, in the first of its passes.
        blocks: image blocks as [start, stop] key indices; None finds runs of the soft token's id.
        pixels: [images, C, Y, X].
        composition: of window and image block.
        held: the dtype that the producer held weights in.
        before: the pass that this one continues.
        kept: [cached] which of the keys that it left are still there; None is all.
        moved: [cached] by how many positions each of them was turned since, as after a context shift.
    """
    config = loaded.params.config
    row, key = np.asarray(ids, np.int64)[None], cached + np.arange(len(ids))
    places = row == soft_token_id(config)
    if blocks is not None:
        places = np.zeros(row.shape, bool)
        for start, stop in blocks:
            places |= (key >= start) & (key < stop)
    else:
        places &= loaded.vision is not None and pixels is not None
    start = int(before.first[0, -1]) if before is not None else left_pads
    first = np.full(row.shape, start, np.int64)
    if positions is not None:
        first[0] = _prompts(np.asarray(positions), key, start, before is not None)
    own = np.maximum(key[None] - first, -1)
    inside = np.where(places | (row < 0) | (row >= config.vocabulary), PAD, row)
    earlier = np.concatenate([before.earlier, before.positions[0]]) if before is not None else np.zeros(0, np.int64)
    if kept is not None:
        earlier = earlier[kept] + (0 if moved is None else moved)
    return OnePass(
        config, loaded.params, loaded.vision, inside, places, own, first, cached, pixels, composition, held, earlier,
        kept, moved,
    )  # fmt: skip


def _prompts(positions: np.ndarray, key: np.ndarray, start: int, continues: bool) -> np.ndarray:
    """Return the index of the first key of each token's prompt.

    Args:
        positions: [T], 0 where a packed prompt begins.
        key: [T] index of each token's own key.
        start: of the prompt that the pass begins with, or goes on with.
        continues: whether keys are cached. Positions that begin at 0 there may as well be those of a port that forgot
            them: only a restart further in, of positions that are right otherwise, is another prompt.

    Returns:
        [T] int64.
    """
    begins = (positions == 0) & (key >= start)
    first = np.maximum.accumulate(np.where(begins, key, start))
    if continues and not (begins[1:].any() and np.array_equal(positions, key - first)):
        return np.full(len(key), start)
    return first
