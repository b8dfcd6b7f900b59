"""Images to resize, of any size and kind."""

import numpy as np
from hypothesis import strategies as st
from numba import config as numba_config

LONGEST = 40 if numba_config.DISABLE_JIT else 300
sides = st.one_of(st.integers(1, 12), st.integers(1, LONGEST), st.sampled_from([1, 2, 3, 14, 32]))
kinds = st.sampled_from(["random", "black and white", "white", "one white pixel", "ramp"])


def make(kind, Y, X, seed):
    random = np.random.default_rng(seed)
    if kind == "random":
        return random.integers(0, 256, (Y, X, 3), dtype=np.uint8)
    if kind == "black and white":
        return (random.integers(0, 2, (Y, X, 3)) * 255).astype(np.uint8)
    if kind == "ramp":
        return (np.arange(Y * X * 3) * 255 // (Y * X * 3)).astype(np.uint8).reshape(Y, X, 3)
    image = np.full((Y, X, 3), 255 if kind == "white" else 0, np.uint8)
    image[random.integers(Y), random.integers(X)] = 255
    return image
