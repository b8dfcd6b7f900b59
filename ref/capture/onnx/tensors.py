"""What a runtime returned, on the axes of the registry."""

import numpy as np

from ref.capture.common import aligned, key_ranges
from ref.capture.onnx.value import Value
from ref.capture.passes import Pass, lengths_of_pass
from ref.config import TextConfig, VisionConfig
from ref.dump.layouts import lengths_at
from ref.dump.write import axes_of

FAR = -1e4  # a mask's hidden cells are the most negative number of their format, or infinity


class Unlike(Exception):
    """A value of another shape than the weights make."""

    def __init__(self, want: list[int], got: list[int]):
        self.want, self.got = want, got


def shaped(
    tap: str, found: Value, value: np.ndarray, config: TextConfig, vision: VisionConfig | None, at: Pass
) -> np.ndarray | str:
    """Return a value on the registry's axes, heads split; or why it is left out.

    Args:
        tap: its name.
        found: where it came from.
        value: as the runtime returned it.
        config: of the weights.
        vision: of their tower; None in a run without images.
        at: the pass, of one row.

    Raises:
        Unlike: it has another shape than these weights make of such a pass.
    """
    if found.mask:
        return _visible(value, found.mask)
    axes = (found.layout or axes_of(tap)).split()
    sizes = _sizes(tap, config, vision, at)
    want = [sizes[axis.lower()] for axis in axes]
    joined = [*want[:-2], want[-2] * want[-1]] if axes[-1] == "H" else want
    if axes[-1] == "P" and tap == "vision.patch_embed":  # a convolution's grid
        value = value.reshape(*value.shape[:2], -1)
    if list(value.shape) not in (want, joined):
        raise Unlike(want, list(value.shape))
    value = value.reshape(want)
    if found.layout is not None:
        value = value.transpose([axes.index(one) for one in _order(tap, axes)])
    if "S" in axes and "T" in axes_of(tap).split() and "S" not in axes_of(tap).split():  # a fused one shows all keys
        value = value[:, -at.ids.shape[1] :]
    return aligned(tap, value, config, at.cached, at.mask.shape[1])


def _sizes(tap: str, config: TextConfig, vision: VisionConfig | None, at: Pass) -> dict[str, int]:
    lengths = lengths_of_pass(config, vision, at)
    return lengths_at(tap, lengths) | {"s": lengths.keys}


def _order(tap: str, axes: list[str]) -> list[str]:
    """Return the registry's axes; S stands for T where more keys are shown than those of the pass."""
    own = axes_of(tap).split()
    return ["S" if one == "T" and "T" not in axes else one for one in own]


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
