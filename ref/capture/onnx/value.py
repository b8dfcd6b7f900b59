"""A value of a graph, and the order of its axes."""

from typing import NamedTuple

from ref.capture.onnx.graph import Graph

HEADS_FIRST = {"attn.q_norm": "B N T H", "attn.k_norm": "B K T H"}
SWAPPED = (0, 2, 1, 3)  # by a Transpose between tokens and heads
SUMS = ("Add", "SkipSimplifiedLayerNormalization")  # the latter's last output is the sum, if it is asked for
MOVES = ("Transpose", "Reshape", "Cast", "Identity")  # operations that only move or widen values


class Value(NamedTuple):
    """A value that is a tap."""

    name: str
    layout: str | None = None  # its axes, where heads come before tokens; else the registry's
    mask: str = (
        ""  # what its True says, if it is one: `seen` or `hidden`; a mask of floats is 0 where something is seen
    )


def head_axes(graph: Graph, tap: str, name: str, module: str) -> str | None:
    """Return the axes of a norm of heads, told by the Transpose before it, never by a length.

    Args:
        graph: the graph.
        tap: `attn.q_norm` or `attn.k_norm`; others have the registry's axes.
        name: of its value.
        module: the norm's.
    """
    if tap not in HEADS_FIRST:
        return None
    value, swaps = graph.input_of(module), 0
    while value is not None and (node := graph.maker.get(value)) is not None and node.op in MOVES:
        swaps += node.order == SWAPPED
        value = node.inputs[0]
    return HEADS_FIRST[tap] if swaps % 2 else None


def sum_of(graph: Graph, part: str | None) -> tuple[str | None, str | None]:
    """Return what a value is added to, and their sum; None of what there is not.

    Args:
        graph: the graph.
        part: the value; None where there is none.
    """
    adds = [node for node in graph.users[part or ""] if node.op in SUMS and len(node.inputs) > 1]
    if len(adds) != 1:
        return None, None
    [node] = adds
    sums = node.outputs if node.op == "Add" else node.outputs[1:]
    return node.inputs[node.inputs[0] == part], next(reversed(sums), None)
