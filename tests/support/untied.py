"""`tiny` with a head of its own, as a fine-tuned checkpoint has one."""

import numpy as np

import ref
from ref.weights.resolve import Loaded

SPREAD = 0.05  # of the head's values: about those of the embedding


def own_head(shape: tuple[int, ...], seed: int = 5) -> np.ndarray:
    """Draw a head."""
    return (SPREAD * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def untied_tiny(sees: bool = False) -> Loaded:
    """Return `tiny`, without its tower unless it is to see, and with a head that is not its embedding."""
    tiny = ref.load("tiny")
    params = tiny.params._replace(head=own_head(tiny.params.embedding.shape))
    return tiny._replace(params=params, vision=tiny.vision if sees else None)
