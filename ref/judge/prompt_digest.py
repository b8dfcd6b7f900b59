"""What tells a prompt from another, without keeping it."""

import hashlib

import numpy as np

from ref.dump.opened import DumpPass

DIGITS = 16  # hexadecimal: 64 bits, against chance and not against malice


def prompt_digest(one: DumpPass) -> str:
    """Return a digest of what a pass was given: ids, how many were cached, pads, image blocks, the shape of pixels.

    Positions and the values of pixels are left out: a port makes them itself, and may make them otherwise tomorrow.

    Args:
        one: a pass of a dump.
    """
    digest, shape = hashlib.sha256(), [] if one.pixels is None else one.pixels.shape
    for values in (one.ids, [one.cached, one.left_pads], one.image_blocks, shape):
        digest.update(np.asarray(values, np.int64).tobytes() + b";")
    return digest.hexdigest()[:DIGITS]
