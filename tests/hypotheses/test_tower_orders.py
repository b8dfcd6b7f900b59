"""The vision tower: patches in each other's places, and square weights that are used transposed."""

import numpy as np
import pytest
from support.caused import only_cause, right, values_of
from support.image_dumps import report_of_images

from ref.config import VISION
from ref.emulate.tower_rules import TOWER

PATCHES = VISION["tiny"].side ** 2
EMBED = "vision.patch_embed"


def tiled(side=int(PATCHES**0.5), half=2):
    """List patches tile by tile of `half` x `half`, as a tower that pools early would."""
    places = np.arange(side * side).reshape(side // half, half, side // half, half)
    return places.swapaxes(1, 2).ravel().tolist()


@pytest.mark.parametrize("order", [tiled(), np.random.default_rng(4).permutation(PATCHES).tolist()])
def test_patches_that_stand_in_another_order(order):
    cause = only_cause(report_of_images(2, {EMBED: lambda at: right(EMBED)(at)[:, order]}))
    assert (cause["mutant"], values_of(cause), cause["taps"]) == ("patches_permuted", {"order": order}, [EMBED])
    assert cause["what"].startswith("Patches stand in another order: ")


@pytest.mark.parametrize(("tap", "source"), [("q", "attn.pre_norm"), ("k", "attn.pre_norm"), ("out", "attn.mix")])
def test_a_square_weight_that_is_transposed(tap, source):
    group, field = f"{TOWER}attn.{tap}", {"out": "attn_out"}.get(tap, tap)

    def rule(at):
        y = right(group)(at)
        if at.layer != 1:
            return y
        x = at[source].reshape(*at[source].shape[:2], -1).astype(np.float64)
        weight, bias = (np.asarray(getattr(at.weights, name), np.float64) for name in (field, f"{field}_bias"))
        return (x @ weight + bias).astype(np.float32).reshape(y.shape)

    cause = only_cause(report_of_images(1, {group: rule}))
    assert (cause["mutant"], values_of(cause), cause["layers"]) == ("weights_transposed", {}, [1])
    assert cause["taps"] == [f"vision.layer.1.attn.{tap}"]
    assert cause["what"] == f"The weight {field} is used transposed."
