"""MLX."""

from support.dump_page import run_snippet
from support.mlx_models import scale_in_float32

import ref

from .door import Door

LAYER = 3


def mlx(ids: list[int], planted: bool) -> None:
    """Capture mlx-lm, its embedding's scale mended; planted: a layer has the values of the one before."""
    from ref.capture.mlx.model import build_from

    model = build_from(ref.load("270m"))
    if planted:
        layers = model.model.layers
        layers[LAYER].self_attn.v_proj.weight = layers[LAYER - 1].self_attn.v_proj.weight
    with scale_in_float32():
        run_snippet("dump of mlx", model=model, ids=ids)


DOORS = (
    Door(
        "mlx",
        ("mlx-lm", "mlx"),
        ("mlx", "mlx_lm"),
        "mlx[cpu]==0.32.4 mlx-lm==0.32.2",
        "dump of mlx",
        "values projected by the weights of the layer before",
        "weights_of_layer",
        f"text.layer.{LAYER}.attn.v",
        mlx,
    ),
)
