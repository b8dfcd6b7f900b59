"""What a runtime returned, on the axes of the registry."""

import numpy as np

from ref.capture.common import key_ranges
from ref.capture.onnx.value import Value
from ref.config import TextConfig
from ref.dump.layouts import lengths_of
from ref.dump.write import axes_of

FAR = -1e4  # a mask's hidden cells are the most negative number of their format, or infinity


class Unlike(Exception):
    """A value of another shape than the weights make."""

    def __init__(self, want: list[int], got: list[int]):
        self.want, self.got = want, got


def shaped(tap: str, found: Value, value: np.ndarray, config: TextConfig, count: int) -> np.ndarray | str:
    """Return a value on the registry's axes, heads split; or why it is left out.

    Args:
        tap: its name.
        found: where it came from.
        value: as the runtime returned it.
        config: of the weights.
        count: of tokens.

    Raises:
        Unlike: it has another shape than these weights make of so many tokens.
    """
    if found.mask:
        return _visible(value, found.mask)
    sizes = lengths_of(config._asdict(), 1, count, 0, None).text | {"s": count}
    want = [sizes[axis.lower()] for axis in (found.layout or axes_of(tap)).split()]
    joined = [*want[:-2], want[-2] * want[-1]]
    if list(value.shape) != want and (want[-1] != config.head_dim or list(value.shape) != joined):
        raise Unlike(want, list(value.shape))
    return value.reshape(want) if found.layout is None else value.reshape(want).swapaxes(1, 2)


def _visible(mask: np.ndarray, says: str) -> np.ndarray | str:
    """Return the keys that each query sees, as ranges where they are ranges."""
    if mask.dtype == bool:
        seen = mask if says == "seen" else ~mask
    else:
        wide = mask.astype(np.float64)
        if not ((wide == 0) | (wide < FAR)).all():
            return "the mask has other numbers than 0 and very negative ones"
        seen = wide == 0
    seen = seen.reshape(-1, *seen.shape[-2:])
    return key_ranges(seen[0]) if (seen == seen[0]).all() else "the mask is not the same in every head"
