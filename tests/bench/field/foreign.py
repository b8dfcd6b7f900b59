"""Dumps of libraries without an adapter: what their captures have in common."""

from importlib import import_module

import ml_dtypes
import numpy as np

from ref.dump.write import DumpWriter
from ref.ops.linear import widen_jit
from ref.weights.export import named_weights

from .row import Missing

Taps = dict[str, tuple[np.ndarray, str | None]]  # tap -> value, and its axes where they are not the registry's


def needs(*names: str, version: str):
    """Import modules that need not be there; refuse their rows in one line.

    Args:
        names: of the modules.
        version: what to install, as pip takes it.
    """
    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise Missing(f"no {names[0]} here ({error}): pip install {version}") from None


def write_passes(folder, producer, loaded, dtype: str, passes: list[tuple[list[int], Taps]], **policy) -> None:
    """Write a dump of one prompt and its cached steps.

    Args:
        folder: new.
        producer: (name, version).
        loaded: the weights.
        dtype: of weights and arithmetic.
        passes: ids and taps of each.
        policy: fields that differ from the usual.
    """
    config, cached = loaded.params.config, 0
    model = {"config": config._asdict(), "weights": {"name": loaded.name, "dtype": dtype, "sha256": None}}
    says = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    says |= {"rope_angle": "float32", "attention_impl": "eager"} | policy
    with DumpWriter(folder, model, says, dict(zip(("name", "version"), producer, strict=True))) as writer:
        for ids, taps in passes:
            for name, (value, layout) in taps.items():
                writer.add_tensor(name, value.astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else value, layout)
            positions = list(range(cached, cached + len(ids)))
            row = {"ids": list(ids), "positions": positions, "cached": cached, "image_blocks": [], "left_pads": 0}
            writer.end_pass(row)
            cached += len(ids)


def float_weights(loaded, prefix: str = "model."):
    """Yield (transformers' name, float32) of every tensor of the text model."""
    for name, weight in named_weights(loaded.params, prefix):
        yield name, np.require(widen_jit(weight), np.float32, "W")


def heads(value: np.ndarray, head_dim: int) -> np.ndarray:
    """Split the last axis into heads."""
    return value.reshape(*value.shape[:-1], -1, head_dim)
