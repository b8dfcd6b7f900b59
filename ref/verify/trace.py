"""Run prompts with every tap recorded and write a dump of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ref.errors import wanted
from ref.model.cache import empty_cache
from ref.model.taps import Recorder, tap_names
from ref.model.inputs import check_ids
from ref.model.text import How, forward
from ref.ops import KERNEL
from ref.verify.dump import DumpWriter


def trace(
    loaded, prompts: Sequence[Sequence[int]], folder: Path, how: How, patterns: Sequence[str], steps: int
) -> dict:
    """Write a version-1 dump of each prompt, one pass a prompt, or with steps a prefill and greedy cached steps.

    Args:
        loaded: weights, from `ref.weights.resolve.load`.
        prompts: token ids.
        folder: where; empty or new.
        how: ops and dtype.
        patterns: which taps.
        steps: cached decode steps after each prompt; 0 runs without a cache.

    Returns:
        {"passes", "tensors", "bytes"} of what was written.

    Raises:
        BadInput: no tap matches, ids out of range, folder in use. Nothing is left behind.
    """
    config = loaded.params.config
    for number, ids in enumerate(prompts):
        check_ids(np.asarray(ids)[None], config, f"prompt {number}")
        if len(ids) + steps > config.max_positions:
            raise wanted(
                "prompt and new tokens",
                f"prompt {number}",
                f"at most {config.max_positions}",
                len(ids) + steps,
            )
    if not any(Recorder(*patterns).wants(name) for name in tap_names(config.layers, cached=steps > 0)):
        raise wanted("taps", "trace", "a pattern that matches a tap, such as 'text.layer.0.*'", list(patterns))
    writer = DumpWriter(folder, _model(loaded), _policy(how, patterns, config.layers))
    try:
        for ids in prompts:
            _trace_prompt(writer, loaded.params, ids, how, patterns, steps)
        writer.close()
    except BaseException as error:
        writer.abandon()
        if isinstance(error, OSError):
            raise wanted("output folder", folder, "room to write", error.strerror) from None
        raise
    files = list(folder.glob("*.safetensors"))
    tensors = sum(len(one["tensors"]) for one in writer.content["passes"])
    return {
        "passes": len(writer.content["passes"]),
        "tensors": tensors,
        "bytes": sum(f.stat().st_size for f in files),
    }


def _trace_prompt(writer, params, ids, how, patterns, steps):
    cache = empty_cache(params.config, np.zeros(1), len(ids) + steps, how.dtype) if steps else None
    todo, cached = list(ids), 0
    for step in range(steps + 1):
        recorder = Recorder(*patterns)
        # the last step's logits choose nothing more, but are a tap
        logits, cache = forward(params, [todo], how._replace(taps=recorder), cache)
        positions = list(range(cached, cached + len(todo)))
        row = {"ids": [int(t) for t in todo], "positions": positions, "cached": cached}
        writer.add_pass(recorder.values, row | {"image_blocks": [], "left_pads": 0, "pixels": None})
        cached += len(todo)
        todo = [int(logits[0, -1].argmax())] if step < steps else []


def _model(loaded):
    dtype = loaded.held_as if loaded.held_as != "file" else "as in the file"
    weights = {"name": loaded.name, "dtype": dtype, "sha256": None}
    return {"config": loaded.params.config._asdict(), "weights": weights}


def _policy(how, patterns, layers):
    listening = Recorder(*patterns)
    inner = [name for name in tap_names(layers) if name.endswith((".scores", ".probs"))]
    stepped = {name.rpartition(".attn.")[0] for name in inner if listening.wants(name)}
    attention = {0: "online softmax", layers: "scores, softmax, mix"}.get(len(stepped), "mixed")
    name = np.dtype(how.dtype).name
    return {
        "compute_dtype": name,
        "matmul_activations": name,
        "kv_dtype": name,
        "rope_angle": "float64",
        "attention_impl": attention if how.ops is KERNEL else "scores, softmax, mix",
    }
