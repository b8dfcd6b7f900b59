"""Made-up weights with official names, shapes and dtype: each tensor is a function of its name and a seed.

Nothing is stored, so 27B needs no disk: a layer's values come out of a counter-based generator when they are asked for.
"""

import hashlib
from functools import lru_cache
from math import prod

import numpy as np
from tqdm import tqdm

from ref.config import TextConfig, VisionConfig
from ref.model.params import (
    LayerParams,
    TextParams,
    VisionLayerParams,
    VisionParams,
    layer_shapes,
    vision_layer_shapes,
    vision_shapes,
)
from ref.ops.linear import ByRows
from ref.ops.rounding import round_bfloat16, widen_bfloat16
from ref.weights.load import LazyLayers
from ref.weights.names import (
    EMBEDDING,
    FINAL_NORM,
    LAYER_NAMES,
    MATRICES,
    hugging_face_name,
    is_norm,
    vision_name,
)
from ref.weights.philox import BLOCK, look_up_jit

BY_ROWS = 2**24  # values; a larger embedding is made row by row: that of 27B would be 2.8 GB


def synthetic_tensor(
    name: str, shape: tuple[int, ...], seed: int, *, spread: float, centre: float, bfloat16: bool
) -> np.ndarray:
    """Make one tensor: uniform values around a centre.

        x[i] = centre + spread * sqrt(3) * (u[i] / 32768 - 1),    u[i] the i-th 16-bit draw of Philox

    Args:
        name: the official tensor name; it keys the generator together with the seed.
        shape: of the result.
        seed: any integer.
        spread: standard deviation.
        centre: mean.
        bfloat16: round to bfloat16 and return its bits, as the released files hold them.

    Returns:
        shape, uint16 bits or float32.

    Source: Salmon et al. 2011 (Philox), as NumPy implements it.
    Differs: trained weights are not uniform; only names, shapes, dtype and scale are official.
    """
    return _stretch(_key(name, seed), _table(spread, centre, bfloat16), 0, prod(shape)).reshape(shape)


def synthetic_rows(
    name: str, shape: tuple[int, ...], seed: int, *, spread: float, centre: float, bfloat16: bool
) -> ByRows:
    """Make a matrix whose rows come out of the generator when they are asked for.

    Args:
        name, shape, seed, spread, centre, bfloat16: as `synthetic_tensor`, to which every row is bit-equal.

    Returns:
        ByRows.
    """
    key, table, (count, width) = _key(name, seed), _table(spread, centre, bfloat16), shape

    def take(rows) -> np.ndarray:
        index = np.arange(count)[rows]
        if isinstance(rows, slice) and rows.step in (None, 1):
            start = int(index[0]) if index.size else 0
            return _stretch(key, table, start * width, (start + index.size) * width).reshape(-1, width)
        out = np.empty((index.size, width), table.dtype)
        for place, row in enumerate(index.tolist()):
            out[place] = _stretch(key, table, row * width, (row + 1) * width)
        return out

    return ByRows((count, width), take)


def _key(name: str, seed: int) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "<u8")


@lru_cache(maxsize=32)
def _table(spread: float, centre: float, bfloat16: bool) -> np.ndarray:
    """Return the value that each of the 65,536 draws stands for."""
    draws = np.arange(65_536, dtype=np.float32)
    values = centre + np.float32(spread * 3**0.5) * (draws / np.float32(32_768) - 1)
    return round_bfloat16(values) if bfloat16 else values


def _stretch(key: np.ndarray, table: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return values start..stop of the tensor that key and table stand for."""
    first = start // BLOCK
    values = look_up_jit(table, key, first, -(-stop // BLOCK) - first)
    return values[start - BLOCK * first : stop - BLOCK * first]


class _Layers(LazyLayers):
    """Layers that show, on a terminal, how far a walk through them is: with made-up weights a pass takes minutes."""

    def __init__(self, count: int, build, tower: str):
        super().__init__(count, build)
        self._tower = tower

    def __iter__(self):
        how = {"unit": "layer", "disable": None, "delay": 2, "leave": False}
        return iter(tqdm(super().__iter__(), f"synthetic {self._tower} layers", len(self), **how))


def synthetic_params(c: TextConfig, seed: int = 0, bfloat16: bool = True) -> TextParams:
    """Make the parameters of a whole text model, one layer at a time.

    Matrices have standard deviation inputs^-1/2 and the embedding width^-1/2, so that activations keep their size;
    norm gains vary around 0.25, never around 0, so that a missing + 1, a swapped or a skipped norm shows.

    Args:
        c: the configuration.
        seed: which model.
        bfloat16: matrices and norms in bfloat16 as released, else float32.

    Differs: see `synthetic_tensor`.
    """
    shapes = layer_shapes(c)

    def make(field: str, shape: tuple[int, ...], layer: int | None):
        name = hugging_face_name(field, layer)
        if is_norm(field):
            gain = synthetic_tensor(name, shape, seed, spread=0.4, centre=0.25, bfloat16=bfloat16)
            return widen_bfloat16(gain) if bfloat16 else gain
        of = synthetic_rows if field == EMBEDDING and prod(shape) > BY_ROWS else synthetic_tensor
        return of(name, shape, seed, spread=shape[-1] ** -0.5, centre=0.0, bfloat16=bfloat16)

    def build(i: int) -> LayerParams:
        return LayerParams(**{field: make(field, shapes[field], i) for field in LAYER_NAMES})

    embedding = make(EMBEDDING, (c.vocabulary, c.width), None)
    return TextParams(c, embedding, _Layers(c.layers, build, "text"), make(FINAL_NORM, (c.width,), None))


def synthetic_vision(config: VisionConfig, text_width: int, seed: int = 0, bfloat16: bool = True) -> VisionParams:
    """Make the parameters of a vision tower and its projector, one block at a time.

    Matrices have standard deviation inputs^-1/2; LayerNorm gains vary around 1 and the RMSNorm's around 0.25; biases
    and positions vary around 0 by 0.3: no part can be left out, swapped or transposed unseen.

    Args:
        config: of the tower.
        text_width: D of the text model.
        seed: which model.
        bfloat16: every number one of bfloat16, as released; matrices as bits, the rest as float32. Else float32.

    Differs: see `synthetic_tensor`. A bias of the keys moves all scores of a query alike: only its own tap shows it.
    """

    def make(field: str, shape: tuple[int, ...], layer: int | None):
        spread, centre = _vision_scale(field, shape)
        name = vision_name(field, layer)
        made = synthetic_tensor(name, shape, seed, spread=spread, centre=centre, bfloat16=bfloat16)
        return widen_bfloat16(made) if bfloat16 and field not in MATRICES else made

    shapes = vision_layer_shapes(config)

    def build(i: int) -> VisionLayerParams:
        return VisionLayerParams(**{field: make(field, shape, i) for field, shape in shapes.items()})

    outside = {field: make(field, shape, None) for field, shape in vision_shapes(config, text_width).items()}
    return VisionParams(config, layers=_Layers(config.layers, build, "vision"), **outside)


def _vision_scale(field: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return (standard deviation, mean) of a parameter."""
    if field == "soft_norm":
        return 0.4, 0.25
    if field not in MATRICES:
        return 0.3, 1.0 if is_norm(field) else 0.0
    return shape[0 if field == "projection" else -1] ** -0.5, 0.0  # the projector alone is [in, out]
