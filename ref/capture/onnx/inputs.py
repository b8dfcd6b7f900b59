"""What goes into a graph: token ids, and beside them what it asks for by names that are known."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ref.capture.onnx.files import needs
from ref.capture.onnx.graph import Graph
from ref.capture.passes import Pass
from ref.capture.prompts import Prompt
from ref.config import TextConfig
from ref.errors import wanted

IDS = ("input_ids", "tokens", "ids")
# other inputs -> what they are of a pass
MADE: dict[str, Callable[[Pass], np.ndarray]] = {
    "attention_mask": lambda at: at.mask,
    "position_ids": lambda at: at.positions,
    "cache_position": lambda at: np.arange(at.cached, at.mask.shape[1]),
    "token_type_ids": lambda at: at.types,
    "num_logits_to_keep": lambda at: np.zeros(()),  # all of them
    "logits_to_keep": lambda at: np.zeros(()),
}
PIXELS = "pixel_values"
# keys and values of earlier passes, which go in, and those that come out
PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
PRESENT = re.compile(r"present\.(\d+)\.(key|value)")
Past = Mapping[tuple[str, str], np.ndarray]  # (layer, key or value) -> [1, K, S, H]


def check_asked(graph: Graph, prompt: Prompt, steps: int, config: TextConfig) -> None:
    """Refuse what a graph has no inputs for.

    Args:
        graph: as it was read.
        prompt: what will be run.
        steps: cached steps after it.
        config: of the weights.

    Raises:
        BadInput: steps of a graph without a cache, pads of one without a mask, images of one without pixels, or none
            of one that has.
    """
    names = {one.name for one in graph.inputs}
    if steps and not all(cache_of(graph, i) for i in range(config.layers)):
        want = "0, or a graph with past_key_values.N.key and .value, and present.N.key and .value"
        raise wanted("max-new-tokens", graph.path, want, steps)
    if any(prompt.pads) and "attention_mask" not in names:
        raise wanted("left pads", graph.path, "none, or a graph with the input attention_mask", prompt.pads)
    if prompt.pixels is not None and PIXELS not in names:
        got = "a graph of the text, whose images another graph puts in" if "inputs_embeds" in names else "none"
        raise wanted("images", graph.path, f"a graph with the input {PIXELS}", got)
    if prompt.pixels is None and PIXELS in names:
        raise wanted("images", graph.path, "at least one: the graph runs its tower in every pass", "none")


def cache_of(graph: Graph, layer: int) -> dict[str, str]:
    """Return the outputs that hold the keys and values of a layer after a pass; empty where they do not go in, too."""
    going_in = {found[2] for one in graph.inputs if (found := PAST.fullmatch(one.name)) and found[1] == str(layer)}
    out = {found[2]: name for name in graph.outputs if (found := PRESENT.fullmatch(name)) and found[1] == str(layer)}
    return out if going_in == set(out) == {"key", "value"} else {}


def feeds_of(graph: Graph, at: Pass, config: TextConfig, past: Past | None = None) -> dict[str, np.ndarray]:
    """Make the inputs of a graph for a pass.

    Args:
        graph: as it was read.
        at: the pass, of one row.
        config: of the weights.
        past: what the pass before left; None for empty caches.

    Raises:
        BadInput: an input whose name is not known, or one of another length.
    """
    of_ids = _name_of_ids(graph)
    feeds = {}
    for one in graph.inputs:
        kept = PAST.fullmatch(one.name)
        if one.name == of_ids:
            value = at.ids
        elif one.name in MADE:
            value = MADE[one.name](at)
        elif one.name == PIXELS and at.pixels is not None:
            value = at.pixels
        elif kept:
            value = past[kept[1], kept[2]] if past else np.zeros((1, config.kv_heads, 0, config.head_dim))
        else:
            known = ", ".join([IDS[0], *MADE, PIXELS, "past_key_values.N.key"])
            raise wanted(f"input {one.name}", graph.path, f"one of {known}", "an input that nothing is known of")
        feeds[one.name] = _fitting(graph, one, value)
    return feeds


def _name_of_ids(graph: Graph) -> str:
    names = [one.name for one in graph.inputs]
    known = next((name for name in IDS if name in names), None)
    if known is None and len(names) == 1:
        return names[0]
    if known is None:
        raise wanted("inputs", graph.path, f"one called {' or '.join(IDS)}", ", ".join(names) or "none")
    return known


def _fitting(graph: Graph, one: Any, value: np.ndarray) -> np.ndarray:
    """Return a value in an input's format, having refused another shape than the graph is for."""
    kind = one.type.tensor_type
    dims = [dim.dim_value or None for dim in kind.shape.dim]
    fits = len(dims) == value.ndim and all(dim in (None, n) for dim, n in zip(dims, value.shape, strict=True))
    if kind.HasField("shape") and not fits:
        shape = [dim or "any" for dim in dims]
        raise wanted(f"input {one.name}", graph.path, f"a graph for {list(value.shape)}", f"one for {shape}")
    return value.astype(needs("onnx.helper").tensor_dtype_to_np_dtype(kind.elem_type))
