"""Capture Gemma 3 of mlx-lm, or the language model of mlx-vlm's, as it is. Extra: [mlx].

What mlx-lm 0.32.2 computes unlike transformers: the scale of embeddings is rounded to bfloat16 in every format;
attention is one fused function, so that scores and probabilities are not heard; the norm is r(x * inv) * r(1 + w).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ref.capture.common import warn_if_newer
from ref.capture.mlx.listen import TABLE, hearing, to_numpy
from ref.capture.mlx.model import build_from, config_of, import_mlx, text_model, version_of
from ref.capture.places import Place, places_of, shipped
from ref.capture.values import Values, check_ids, check_taps, finish
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.weights.resolve import load, weights_name


def capture(
    model: Any,
    ids: Any,
    out_dir: str | Path,
    *,
    steps: int = 0,
    weights: str | None = None,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Run a model of mlx-lm or mlx-vlm on token ids and write the taps that it shows as a dump.

    Args:
        model: a loaded Gemma 3, quantised or not; of mlx-vlm the language model is run.
        ids: [T] or [B, T] integers; each row is its own pass of the dump.
        out_dir: where the dump will be; must not exist or be empty.
        steps: greedy cached decode steps after the prompt, each a pass of its own.
        weights: what the dump calls the weights, as `--weights` takes it.
        taps: patterns of the taps to keep.

    Returns:
        out_dir. Each pass has the taps of `ref.model.taps` in the dtype that they had, except `attn.visible`, scores,
        probabilities and caches.

    Raises:
        BadInput: MLX is missing, another model, ids out of the vocabulary, no tap matches, the folder is in use.

    Source: mlx-lm 0.32.2 `models/gemma3_text.py`; mlx-vlm 0.7.10 `models/gemma3/language.py`.
    """
    import_mlx()
    warn_if_newer("mlx")
    text = text_model(model)
    config = config_of(text)
    rows = check_ids(ids, config)
    if steps < 0 or len(rows[0]) + steps > config.max_positions:
        raise wanted("steps", "capture", f"0 or more, {config.max_positions} tokens at most", steps)
    modules = dict(text.named_modules())
    places = places_of(shipped(TABLE, modules), modules, config.layers)
    check_taps(places, taps)
    dtype = str(text.model.norm.weight.dtype).split(".")[-1]
    held = {"name": weights_name(weights) if weights else "not said", "dtype": dtype, "sha256": None}
    described = {"config": config._asdict(), "weights": held}
    with DumpWriter(Path(out_dir), described, _policy(dtype), version_of(text)) as writer:
        values = Values(writer, config, taps)
        with hearing(modules, places, values):
            _run(text, rows, steps, values, places)
        values.write_rows()
    return finish(values, writer)


def capture_weights(
    weights: str,
    prompts: Sequence[Sequence[int]],
    out: Path,
    *,
    dtype: str = "float32",
    steps: int = 0,
    taps: Sequence[str] = ("*",),
) -> Path:
    """Write a dump of mlx-lm on weights as the command line names them.

    Args:
        weights: anything that `--weights` takes; their text part.
        prompts: token ids; one, or several of one length.
        out: where; empty or new.
        dtype: float32, bfloat16 or float16; of weights and arithmetic.
        steps: greedy cached decode steps.
        taps: as `capture`.

    Raises:
        BadInput: as `capture`; prompts of several lengths.
    """
    if len({len(one) for one in prompts}) != 1:
        raise wanted("prompts", "capture", "one, or several of one length", f"{len(prompts)} of several")
    model = build_from(load(weights), dtype)
    return capture(model, [list(one) for one in prompts], out, steps=steps, weights=weights, taps=taps)


def _run(model: Any, rows: list[list[int]], steps: int, values: Values, places: list[Place]) -> None:
    mx = import_mlx().core
    cache, cached, todo = model.make_cache() if steps else None, 0, rows
    for step in range(steps + 1):
        values.begin(len(todo), len(todo[0]), cached)
        out = model(mx.array(todo), cache=cache)
        logits = getattr(out, "logits", out)
        values.logits(to_numpy(logits))
        values.end(todo, cached, places)
        cached += len(todo[0])
        if step < steps:
            todo = [[one] for one in logits[:, -1].argmax(-1).tolist()]


def _policy(dtype: str) -> dict[str, str]:
    own = dict.fromkeys(("compute_dtype", "matmul_activations", "kv_dtype"), dtype)
    return own | {"rope_angle": "float32", "attention_impl": "fused"}
