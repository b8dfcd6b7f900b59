"""Run prompts with every tap recorded and write a dump of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ref.config import PAD, as_fields
from ref.dump.write import DumpWriter
from ref.errors import wanted
from ref.model.cache import empty_cache
from ref.model.inputs import check_ids
from ref.model.multimodal import Images, embed_images, soft_places
from ref.model.taps import Recorder, check_patterns, row_of, tap_names
from ref.model.text import How, forward
from ref.ops import KERNEL
from ref.ops.visibility import image_blocks

if TYPE_CHECKING:
    from ref.weights.resolve import Loaded


MOST_PATCHES = 1024  # a layer's scores of 4,096 patches are a gigabyte: they are written only if asked for by name


def default_taps(loaded: "Loaded", images: Images | None) -> list[str]:
    """List what a trace records when nobody says: every tap, but of a large tower no scores and probs."""
    if images is None or images.vision.config.side**2 <= MOST_PATCHES:
        return ["*"]
    names = tap_names(loaded.params.config.layers, cached=True, vision_layers=images.vision.config.layers)
    return [name for name in names if not (name.startswith("vision.") and row_of(name).is_pairwise)]


def trace(
    loaded: "Loaded",
    prompts: Sequence[Sequence[int]],
    folder: Path,
    how: How,
    patterns: Sequence[str],
    steps: int,
    images: Images | None = None,
) -> dict:
    """Write a dump of each prompt, one pass a prompt, or with steps a prefill and greedy cached steps.

    Args:
        loaded: weights, from `ref.weights.resolve.load`.
        prompts: token ids.
        folder: where; empty or new.
        how: ops and dtype.
        patterns: which taps.
        steps: cached decode steps after each prompt; 0 runs without a cache.
        images: those of the prompt, of which there is one then.

    Returns:
        {"passes", "tensors", "bytes"} of what was written.

    Raises:
        BadInput: no tap matches, ids out of range, folder in use, soft tokens unlike the images. Nothing is left
            behind.
    """
    config, vision = loaded.params.config, images.vision.config if images else None
    for number, ids in enumerate(prompts):
        places = _places([ids], images, config)
        check_ids(np.where(places, PAD, [ids]), config, f"prompt {number}")
        if len(ids) + steps > config.max_positions:
            raise wanted(
                "prompt and new tokens",
                f"prompt {number}",
                f"at most {config.max_positions}",
                len(ids) + steps,
            )
    names = tap_names(config.layers, cached=steps > 0, vision_layers=vision.layers if vision else 0)
    check_patterns(patterns, names, "trace")
    with DumpWriter(folder, _model(loaded, vision), _policy(how, patterns, names)) as writer:
        for ids in prompts:
            _trace_prompt(writer, loaded.params, ids, how, patterns, steps, images)
    files = list(folder.glob("*.safetensors"))
    tensors = sum(len(one["tensors"]) for one in writer.content["passes"])
    return {
        "passes": len(writer.content["passes"]),
        "tensors": tensors,
        "bytes": sum(f.stat().st_size for f in files),
    }


def _places(ids, images: Images | None, config):
    """Find the soft tokens; none are looked for where there is no image: a vocabulary may hold their id."""
    if images is None:
        return np.zeros(np.shape(ids), bool)
    return soft_places(ids, config, images.vision.config.soft_tokens)


def _trace_prompt(writer, params, ids, how, patterns, steps, images):
    cache = empty_cache(params.config, np.zeros(1), len(ids) + steps, how.dtype) if steps else None
    todo, cached = list(ids), 0
    for step in range(steps + 1):
        recorder = Recorder(*patterns, keep=writer.add_tensor)
        now = how._replace(taps=recorder)
        seen = images if step == 0 else None
        soft = embed_images(seen, [todo], params.config, now) if seen else None
        # the last step's logits choose nothing more, but are a tap
        logits, cache = forward(params, [todo], now, cache, soft=soft)
        positions = list(range(cached, cached + len(todo)))
        row = {"ids": [int(t) for t in todo], "positions": positions, "cached": cached, "left_pads": 0}
        row["image_blocks"] = _blocks(soft.places, cached) if soft else []
        writer.end_pass(row, seen.pixels if seen else None)
        cached += len(todo)
        todo = [int(logits[0, -1].argmax())] if step < steps else []


def _blocks(places, cached):
    """List the image blocks of one row, [start, stop] in key indices."""
    blocks = image_blocks(places, np.zeros(places.shape, np.int64), cached)
    return np.unique(blocks[places], axis=0).tolist()


def _model(loaded, vision):
    dtype = "as in the file" if loaded.held_as in ("file", "memory") else loaded.held_as
    weights = {"name": loaded.name, "dtype": dtype, "sha256": None}
    return {"config": as_fields(loaded.params.config, vision), "weights": weights}


def _policy(how, patterns, names):
    listening, heard = Recorder(*patterns), {}
    for name in names:
        if row_of(name).is_pairwise:
            layer = name.rpartition(".attn.")[0]
            heard[layer] = heard.get(layer, False) or listening.wants(name)
    stepped, fused = any(heard.values()), not all(heard.values())
    attention = "mixed" if stepped and fused else "online softmax" if fused else "scores, softmax, mix"
    name = np.dtype(how.dtype).name
    return {
        "compute_dtype": name,
        "matmul_activations": name,
        "kv_dtype": name,
        "rope_angle": "float64",
        "attention_impl": attention if how.ops is KERNEL else "scores, softmax, mix",
    }
