"""The values of a vision tower and its projector in a graph, by the modules that its nodes were in."""

import re
from collections.abc import Iterator

from ref.capture.onnx.attention import NO_PROBS, NO_SCORES, multiplied, unmasked
from ref.capture.onnx.graph import Graph
from ref.capture.onnx.inputs import PIXELS
from ref.capture.onnx.value import Value, sum_of

BLOCK = re.compile(r"(?P<root>.*\.)encoder\.layers\.(?P<number>[0-9]{1,4})\.self_attn\.out_proj")
# module of a block -> the tap that its output is
OUTPUTS = {
    "layer_norm1": "attn.pre_norm",
    "self_attn.q_proj": "attn.q",
    "self_attn.k_proj": "attn.k",
    "self_attn.v_proj": "attn.v",
    "self_attn.out_proj": "attn.out",
    "layer_norm2": "ffn.pre_norm",
    "mlp.fc1": "ffn.up",
    "mlp.fc2": "ffn.out",
}
INPUTS = {"self_attn.out_proj": "attn.mix", "mlp.fc2": "ffn.act"}
ADDED = {"attn.out": ("in", "mid"), "ffn.out": ("mid", "out")}  # what is added to which, and the sum
ENDS = {"embeddings": "vision.embed", "post_layernorm": "vision.post_norm"}
PROJECTOR = "multi_modal_projector"


def find_tower(graph: Graph) -> tuple[dict[str, Value | str], int]:
    """Find the taps of the tower and the projector.

    Args:
        graph: as `read_graph` returns it.

    Returns:
        The values by their taps, or why there is none; and the number of blocks. Nothing, and 0, without a tower.

    Source: torch 2.13 `torch.onnx.export(dynamo=True)`; transformers 5.23 `modeling_siglip.py`, `modeling_gemma3.py`.
    """
    blocks = [found for name in graph.modules if (found := BLOCK.fullmatch(name))]
    if not blocks:
        return {}, 0
    root, count = blocks[0]["root"], len(blocks)
    found = {"vision.pixels": Value(PIXELS)} | dict(_ends(graph, root))
    for i in range(count):
        found |= {f"vision.layer.{i}.{tap}": one for tap, one in _block(graph, f"{root}encoder.layers.{i}.")}
    return found, count


def _value(name: str | None, module: str, layout: str | None = None) -> Value | str:
    return f"no value leaves or enters a module {module}" if name is None else Value(name, layout)


def _ends(graph: Graph, root: str) -> Iterator[tuple[str, Value | str]]:
    patches = "embeddings.patch_embedding"
    yield "vision.patch_embed", _value(graph.output_of(root + patches), patches, "B D P")
    for module, tap in ENDS.items():
        yield tap, _value(graph.output_of(root + module), module)
    projector = next((name for name in graph.modules if name.rpartition(".")[2] == PROJECTOR), PROJECTOR)
    norm = f"{projector}.mm_soft_emb_norm"
    yield "vision.pool", _value(graph.input_of(norm), norm)
    yield "vision.soft_norm", _value(graph.output_of(norm), norm)
    yield "vision.soft_tokens", _value(graph.output_of(projector), projector)


def _block(graph: Graph, prefix: str) -> Iterator[tuple[str, Value | str]]:
    outputs = {tap: graph.output_of(prefix + module) for module, tap in OUTPUTS.items()}
    for module, tap in OUTPUTS.items():
        yield tap, _value(outputs[tap], module)
    for module, tap in INPUTS.items():
        yield tap, _value(graph.input_of(prefix + module), module)
    for tap, (before, after) in ADDED.items():
        added, total = sum_of(graph, outputs[tap])
        if before == "in":
            yield before, _value(added, tap)
        yield after, _value(total, tap)
    yield from _attention(graph, f"{prefix}self_attn", outputs["attn.q"])


def _attention(graph: Graph, module: str, queries: str | None) -> Iterator[tuple[str, Value | str]]:
    softmax = next((node for node in graph.inside(module) if node.op == "Softmax"), None)
    if softmax is None or queries is None:
        yield from dict.fromkeys(("attn.scores", "attn.probs"), "the attention has no Softmax").items()
        return
    scores, _ = unmasked(graph, module, softmax.inputs[0], queries)
    yield "attn.scores", Value(scores) if scores else NO_SCORES
    probs = multiplied(graph, module, softmax.outputs[0])
    yield "attn.probs", Value(probs) if probs else NO_PROBS
