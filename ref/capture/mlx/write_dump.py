"""Capture Gemma 3 of mlx-lm, or the language model of mlx-vlm's, as it is. Extra: [mlx].

What mlx-lm 0.32.2 computes unlike transformers: the scale of embeddings is rounded to bfloat16 in every format;
attention is one fused function, so that scores and probabilities are not heard; the norm is r(x * inv) * r(1 + w).
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ref.capture.common import warn_if_newer
from ref.capture.mlx.listen import TABLE, VISION, hearing, to_numpy
from ref.capture.mlx.model import build_from, config_of, import_mlx, text_model, version_of, vision_config_of
from ref.capture.passes import Pass
from ref.capture.places import Table, places_of, shipped
from ref.capture.prompts import Prompt, check_prompt
from ref.capture.values import Values, check_taps, finish
from ref.config import as_fields
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.weights.resolve import load, weights_name


def capture(
    model: Any,
    ids: Any,
    out_dir: str | Path,
    *,
    steps: int = 0,
    left_pads: Sequence[int] | None = None,
    pixel_values: Any = None,
    weights: str | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Run a model of mlx-lm or mlx-vlm on token ids and write the taps that it shows as a dump.

    Args:
        model: a loaded Gemma 3, quantised or not; of mlx-vlm's, without images, the language model is run.
        ids: [T] or [B, T] integers; each row is its own pass of the dump.
        out_dir: where the dump will be; must not exist or be empty.
        steps: greedy cached decode steps after the prompt, each a pass of its own.
        left_pads: pads of each row; its caches for batches are then told of them, as its batched generation does.
        pixel_values: [images, C, Y, X] in [-1, 1], in the order of their soft tokens; of a whole model of mlx-vlm.
        weights: what the dump calls the weights, as `--weights` takes it.
        taps: patterns of the taps to keep.

    Returns:
        out_dir. Each pass has the taps of `ref.model.taps` in the dtype that they had, except `attn.visible`, scores,
        probabilities and caches.

    Raises:
        BadInput: MLX is missing, another model, ids out of the vocabulary, pixels of a model without a tower, images
            and soft tokens unlike each other, no tap matches, the folder is in use.

    Source: mlx-lm 0.32.2 `models/gemma3_text.py`; mlx-vlm 0.7.10 `models/gemma3/`, `generate.py`.
    """
    import_mlx()
    warn_if_newer("mlx")
    text = text_model(model)
    config, vision = config_of(text), None if pixel_values is None else vision_config_of(model)
    prompt = check_prompt(ids, config, steps=steps, left_pads=left_pads, pixels=pixel_values, vision=vision)
    modules, table = _modules(model, text, vision is not None)
    places = places_of(table, modules, config.layers, vision.layers if vision else 0)
    check_taps(places, taps)
    dtype = str(text.model.norm.weight.dtype).split(".")[-1]
    held = {"name": weights_name(weights) if weights else "not said", "dtype": dtype, "sha256": None}
    described = {"config": as_fields(config, vision), "weights": held}
    with DumpWriter(Path(out_dir), described, _policy(dtype), version_of(text)) as writer:
        values = Values(writer, config, taps, vision)
        with hearing(modules, places, values):
            values.run(prompt, steps, places, _runner(model, text, prompt, steps))
    return finish(values, writer)


def _modules(model: Any, text: Any, sees: bool) -> tuple[dict[str, Any], Table]:
    """Return the modules that are listened to, by name, and their table; of an image those of the whole model."""
    own = dict(text.named_modules())
    table = shipped(TABLE, own)
    if not sees:
        return own, table
    whole = {f"language_model.{name}": rows for name, rows in table.items()}
    first = next(name for name, rows in whole.items() if rows == TABLE["layers.0"])
    return dict(model.named_modules()), {**whole, **VISION, first: ("model.merged", "input")}


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    dtype: str = "float32",
    steps: int = 0,
    left_pads: Sequence[int] | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Write a dump of mlx-lm on weights as the command line names them.

    Args:
        weights: anything that `--weights` takes; their text part.
        prompts: token ids; one, or several of one length.
        out: where; empty or new.
        dtype: float32, bfloat16 or float16; of weights and arithmetic.
        steps: greedy cached decode steps.
        left_pads: of each prompt.
        taps: as `capture`.

    Raises:
        BadInput: as `capture`; prompts of several lengths.
    """
    if len({len(one) for one in prompts}) != 1:
        raise wanted("prompts", "capture", "one, or several of one length", f"{len(prompts)} of several")
    model = build_from(load(weights), dtype)
    return capture(
        model, [list(one) for one in prompts], out, steps=steps, left_pads=left_pads, weights=weights, taps=taps
    )


def _runner(model: Any, text: Any, prompt: Prompt, steps: int) -> Callable[[Pass], np.ndarray]:
    """Return what runs a pass, and gives its logits."""
    mx = import_mlx().core
    cache = _cache(text, prompt, steps)

    def run_pass(at: Pass) -> np.ndarray:
        out = text(mx.array(at.ids), cache=cache, **_images(model, at))
        return to_numpy(getattr(out, "logits", out))

    return run_pass


def _images(model: Any, at: Pass) -> dict[str, Any]:
    """Return the embeddings of a prompt with images, as mlx-vlm's own generation makes them: without a mask."""
    if at.pixels is None:
        return {}
    mx = import_mlx().core
    made = model.get_input_embeddings(mx.array(at.ids), mx.array(at.pixels), mask=mx.array(at.mask))
    return {"inputs_embeds": made.inputs_embeds}


def _cache(text: Any, prompt: Prompt, steps: int) -> Any:
    """Return its caches, None where none is needed; of padded rows those that it makes for batches."""
    if not steps and not any(prompt.pads):
        return None
    made = text.make_cache()
    if not any(prompt.pads):
        return made
    kinds = import_module(type(made[0]).__module__)
    return [
        kinds.BatchRotatingKVCache(one.max_size, prompt.pads)
        if isinstance(one, kinds.RotatingKVCache)
        else kinds.BatchKVCache(prompt.pads)
        for one in made
    ]


def _policy(dtype: str) -> dict[str, str]:
    own = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    return own | {"rope_angle": "float32", "attention_impl": "fused"}
