"""The values inside an attention: rotated heads, mask, scores and probabilities, by what is made from what."""

from collections.abc import Iterator

from ref.capture.onnx.graph import Graph, Node
from ref.capture.onnx.value import MOVES, Value, head_axes

FUSED = ("Attention", "MultiHeadAttention", "GroupQueryAttention")
PASSED = (*MOVES, "Unsqueeze", "Expand")  # on the way from a rotation to the scores: heads are repeated, keys turned
SCALED = ("Mul", "Div")
FUSED_WHY = "the graph has one node for the whole attention, which does not show it"
NO_SCORES = "no value before the Softmax is made from the queries"
NO_PROBS = "no product is made with what the Softmax makes"
HEADS = ("q", "k")
Found = Iterator[tuple[str, Value | str]]


def attention_values(graph: Graph, module: str, outputs: dict[str, str | None]) -> Found:
    """Find what an attention computes between its norms and its output.

    Args:
        graph: the graph.
        module: of the attention.
        outputs: the values of its modules by their taps.

    Returns:
        Pairs of a tap and its value, or why there is none.
    """
    fused = next((node for node in graph.inside(module) if node.op in FUSED), None)
    softmax = next((node for node in graph.inside(module) if node.op == "Softmax"), None)
    normed = [outputs[f"attn.{name}_norm"] for name in HEADS]
    if fused:
        yield from dict.fromkeys(("attn.scores", "attn.probs"), FUSED_WHY).items()
        yield from _of_fused(graph, module, fused, normed)
    elif softmax is None or None in normed:
        taps = ("attn.q_rope", "attn.k_rope", "attn.visible", "attn.scores", "attn.probs")
        yield from dict.fromkeys(taps, "the attention has no Softmax, or no norms before it").items()
    else:
        yield from _of_softmax(graph, module, softmax, [name for name in normed if name])


def _of_softmax(graph: Graph, module: str, softmax: Node, normed: list[str]) -> Found:
    scores, mask = unmasked(graph, module, softmax.inputs[0], normed[0])
    yield "attn.scores", Value(scores) if scores else NO_SCORES
    yield "attn.visible", mask or "no mask is added to the scores"
    probs = multiplied(graph, module, softmax.outputs[0])
    yield "attn.probs", Value(probs) if probs else NO_PROBS
    product = _product(graph, module, scores, normed)
    for number, name in enumerate(HEADS):
        operand = product.inputs[number] if product else None
        yield f"attn.{name}_rope", _rotated(graph, module, name, operand, normed[number])


def _of_fused(graph: Graph, module: str, node: Node, normed: list[str | None]) -> Found:
    if node.op == "GroupQueryAttention":  # it turns the heads itself, and shows the keys that it would keep
        taps = {"attn.q_rope": FUSED_WHY, "attn.v": Value(node.inputs[2])}
        yield from (taps | {"attn.k_rope": Value(node.outputs[1], "B K S H")}).items()  # the newest T are this pass's
    else:
        for number, (name, own) in enumerate(zip(HEADS, normed, strict=True)):
            rotated = _rotated(graph, module, name, node.inputs[number], own) if own else FUSED_WHY
            yield f"attn.{name}_rope", rotated
    mask = node.inputs[3:4] if node.op == "Attention" else ()
    yield "attn.visible", Value(mask[0], mask="seen") if mask else FUSED_WHY


def unmasked(graph: Graph, module: str, name: str, queries: str) -> tuple[str | None, Value | None]:
    """Return the scores before the mask, and the mask; None of what there is not.

    Args:
        graph: the graph.
        module: of the attention.
        name: of what goes into the Softmax.
        queries: of what the scores are made from.
    """
    node = graph.maker.get(name)
    while node and node.op == "Cast":
        name = node.inputs[0]
        node = graph.maker.get(name)
    if node is None or not graph.reaches(name, queries, module):
        return None, None
    if node.op not in ("Add", "Where"):
        return name, None
    made = [number for number, value in enumerate(node.inputs) if graph.reaches(value, queries, module)]
    if len(made) != 1:
        return None, None
    mask = node.inputs[0] if node.op == "Where" else node.inputs[1 - made[0]]
    return node.inputs[made[0]], Value(mask, mask="hidden" if made == [2] else "seen")


def multiplied(graph: Graph, module: str, name: str) -> str | None:
    """Return what the values are multiplied by: the probabilities, in the format that they have there.

    Args:
        graph: the graph.
        module: of the attention.
        name: of what the Softmax makes.
    """
    after = (node for node in graph.inside(module) if node.op in ("MatMul", "Einsum"))
    operands = ((value, node) for node in after for value in node.inputs)
    return next((value for value, _ in operands if graph.reaches(value, name, module)), None)


def _product(graph: Graph, module: str, scores: str | None, normed: list[str]) -> Node | None:
    """Return the product of queries and keys."""
    for node in graph.inside(module):
        if node.op in ("MatMul", "Einsum") and len(node.inputs) == 2 and scores:
            of_both = all(graph.reaches(a, b, module) for a, b in zip(node.inputs, normed, strict=True))
            if of_both and graph.reaches(scores, node.outputs[0], module):
                return node
    return None


def _rotated(graph: Graph, module: str, head: str, name: str | None, normed: str) -> Value | str:
    """Go from the operand of the product back to what the rotation made."""
    while name is not None and name != normed:
        node = graph.maker.get(name)
        scales = node is not None and node.op in SCALED and _is_scaling(graph, node)
        if node is None or not (node.op in PASSED or scales or _is_cache(graph, node)):
            break
        name = next((value for value in node.inputs if graph.reaches(value, normed, module)), None)
    if name is None:
        return "the product of the scores is not made from it"
    return Value(name, _axes(graph, module, head, normed))


def _is_cache(graph: Graph, node: Node) -> bool:
    """Tell whether a node puts new keys behind those that came into the graph."""
    return node.op == "Concat" and any(_came_in(graph, value) for value in node.inputs)


def _came_in(graph: Graph, name: str) -> bool:
    """Tell whether a value is an input of the graph, only moved; a cache that was empty may stand before it."""
    node = graph.maker.get(name)
    while node and (node.op in MOVES or node.op == "Concat"):
        name = node.inputs[-1] if node.op == "Concat" else node.inputs[0]
        node = graph.maker.get(name)
    return name in graph.given


def _axes(graph: Graph, module: str, head: str, normed: str) -> str | None:
    return head_axes(graph, f"attn.{head}_norm", normed, f"{module}.{head}_norm")


def _is_scaling(graph: Graph, node: Node) -> bool:
    """Tell whether a node multiplies by a stored number."""
    return any(value in graph.constants and not graph.constants[value].dims for value in node.inputs)
