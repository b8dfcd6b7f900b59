"""Made-up weights with official names, shapes and dtype: each tensor is a function of its name and a seed.

Nothing is stored, so 27B needs no disk: a layer's values come out of a counter-based generator when they are asked for.
"""

import hashlib

import numpy as np

from ref.config import TextConfig
from ref.model.params import LayerParams, TextParams, layer_shapes
from ref.ops.rounding import round_bfloat16
from ref.weights.load import LazyLayers
from ref.weights.names import EMBEDDING, FINAL_NORM, LAYER_NAMES, hugging_face_name, is_norm

CHUNK = 2**24  # values drawn at a time; bounds the scratch memory beside a tensor


def synthetic_tensor(name: str, shape: tuple[int, ...], seed: int, *, spread: float, centre: float, bfloat16: bool):
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
    key = np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "<u8")
    generator = np.random.Generator(np.random.Philox(key=key))
    size = int(np.prod(shape))
    out = np.empty(size, np.uint16 if bfloat16 else np.float32)
    for start in range(0, size, CHUNK):
        draws = generator.integers(0, 65_536, min(CHUNK, size - start), dtype=np.uint16)
        values = centre + np.float32(spread * 3**0.5) * (draws.astype(np.float32) / np.float32(32_768) - 1)
        out[start : start + CHUNK] = round_bfloat16(values) if bfloat16 else values
    return out.reshape(shape)


def synthetic_params(c: TextConfig, seed: int = 0, bfloat16: bool = True) -> TextParams:
    """Make the parameters of a whole text model, one layer at a time.

    Matrices have standard deviation inputs^-1/2 and the embedding width^-1/2, so that activations keep their size;
    norm gains vary around 0.25, never around 0, so that a missing + 1, a swapped or a skipped norm shows.

    Args:
        c: the configuration.
        seed: which model.
        bfloat16: matrices and norms in bfloat16 as released, else float32.

    Source: own.
    Differs: see `synthetic_tensor`.
    """
    shapes = layer_shapes(c)

    def make(field: str, shape: tuple[int, ...], layer: int | None):
        name = hugging_face_name(field, layer)
        if is_norm(field):
            gain = synthetic_tensor(name, shape, seed, spread=0.4, centre=0.25, bfloat16=bfloat16)
            return gain if not bfloat16 else (gain.astype(np.uint32) << 16).view(np.float32)
        return synthetic_tensor(name, shape, seed, spread=shape[-1] ** -0.5, centre=0.0, bfloat16=bfloat16)

    def build(i: int) -> LayerParams:
        return LayerParams(**{field: make(field, shapes[field], i) for field in LAYER_NAMES})

    embedding = make(EMBEDDING, (c.vocabulary, c.width), None)
    return TextParams(c, embedding, LazyLayers(c.layers, build), make(FINAL_NORM, (c.width,), None))
