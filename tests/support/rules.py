"""A right rule of visibility, and an array that is not ours, for tests of `ref.testing`."""

import numpy as np

from ref.mutants.visibility_parts import Layout, visible


def right(soft, first, start, window):
    return visible(Layout(soft, first, start, window))


class Tensor:
    """As an array of another library: not ours, but NumPy can read it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)
