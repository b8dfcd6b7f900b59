"""The models that are captured: the real 270M, `tiny`, layers of the released sizes, and small ones of odd shapes.

Weights and transformers' model of the newest subject are held, and no others: a layer of the 27B in float32 has 1.6 GB.
"""

from typing import Any, NamedTuple

import numpy as np

import ref
from ref.config import SIGLIP, TextConfig
from ref.ops.linear import take_rows
from ref.weights.resolve import Loaded
from ref.weights.synthetic import synthetic_params, synthetic_vision

VOCABULARY = 512  # rows of the embedding that are left of a released size
LAYERS = {"local": (0,), "global": (5,), "pair": (0, 5)}


class Subject(NamedTuple):
    """Weights, and transformers' model of them."""

    loaded: Loaded
    model: Any


_newest: dict[tuple[str, str], Subject] = {}


def subject(name: str, dtype: str) -> Subject:
    """Return a subject in a dtype; the one before it is forgotten first.

    Args:
        name: 270m, tiny, tiny-long; SIZE-local, SIZE-global, SIZE-pair; small-HEAD_DIM-SEED; siglip-SIDE.
        dtype: of transformers' model.
    """
    from ref.capture.transformers.model import build_from

    if (name, dtype) not in _newest:
        _newest.clear()
        loaded = weights(name)
        _newest[name, dtype] = Subject(loaded, build_from(loaded, dtype))
    return _newest[name, dtype]


def weights(name: str) -> Loaded:
    """Return the weights of a subject; arguments as `subject`."""
    kind, _, rest = name.partition("-")
    if kind == "small":
        return small(*map(int, rest.split("-")))
    if kind == "siglip":
        return tower(int(rest))
    return cut(kind, rest) if rest in LAYERS else ref.load(name)


def cut(size: str, which: str) -> Loaded:
    """Return layers of a released size at their real shapes, made up, with few rows of the embedding and no tower."""
    whole = ref.load(f"synthetic:{size}")
    params, places = whole.params, LAYERS[which]
    every = 1 if which == "global" else 2
    config = params.config._replace(name="custom", layers=len(places), vocabulary=VOCABULARY, global_every=every)
    few = take_rows(params.embedding, slice(0, VOCABULARY))
    params = params._replace(config=config, embedding=few, layers=[params.layers[i] for i in places])
    return whole._replace(name=f"{size}-{which}", params=params, vision=None)


def small(head_dim: int, seed: int) -> Loaded:
    """Return a small model with a head dim of its own: that of rotary tables whose exponents are no short fractions."""
    config = TextConfig("custom", 48, 7, 6, 3, head_dim, 80, 20**-0.5, 16, 4096, vocabulary=300)
    params = synthetic_params(config, seed, bfloat16=False)
    params = params._replace(layers=list(params.layers))
    return ref.load("tiny")._replace(name=f"small-{head_dim}-{seed}", params=params, vision=None)


def tower(side: int) -> Loaded:
    """Return one block of SigLIP at its real width, for images of a side of its own, before a small text model."""
    loaded = small(16, 0)
    soft = (side // SIGLIP.patch // SIGLIP.pool) ** 2
    config = SIGLIP._replace(layers=1, image=side, soft_tokens=soft)
    vision = synthetic_vision(config, loaded.params.config.width)
    return loaded._replace(name=f"siglip-{side}", vision=vision._replace(layers=list(vision.layers)))


def made_ids(loaded: Loaded, count: int, seed: int = 0) -> list[int]:
    """Return BOS and ids drawn from the vocabulary."""
    highest = loaded.params.config.vocabulary
    return [2, *np.random.default_rng([seed, count]).integers(3, highest, count - 1).tolist()]
