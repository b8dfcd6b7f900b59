"""What goes into a graph: token ids, and beside them what it asks for by names that are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ref.capture.onnx.files import needs
from ref.capture.onnx.graph import Graph
from ref.config import TextConfig
from ref.errors import wanted

IDS = ("input_ids", "tokens", "ids")
# other inputs -> what they are of so many tokens without padding
MADE = {
    "attention_mask": lambda count: np.ones((1, count)),
    "position_ids": lambda count: np.arange(count)[None],
    "cache_position": lambda count: np.arange(count),
    "token_type_ids": lambda count: np.zeros((1, count)),  # no images
    "num_logits_to_keep": lambda count: np.zeros(()),  # all of them
    "logits_to_keep": lambda count: np.zeros(()),
}
PAST = "past_key_values."


def feeds_of(graph: Graph, ids: Sequence[int], config: TextConfig) -> dict[str, np.ndarray]:
    """Make the inputs of a graph for a prompt: caches are empty.

    Args:
        graph: as it was read.
        ids: the prompt.
        config: of the weights.

    Raises:
        BadInput: an input whose name is not known, or one of another length.
    """
    of_ids = _name_of_ids(graph)
    feeds = {}
    for one in graph.inputs:
        if one.name == of_ids:
            value = np.array([ids])
        elif one.name in MADE:
            value = MADE[one.name](len(ids))
        elif one.name.startswith(PAST):
            value = np.zeros((1, config.kv_heads, 0, config.head_dim))
        else:
            known = ", ".join([IDS[0], *MADE, f"{PAST}*"])
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
